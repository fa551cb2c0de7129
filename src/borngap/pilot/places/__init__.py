"""What a forecast of a run watches: places in held-out rows, and looks at them."""
