"""Charts, and the series and rows that they read."""
