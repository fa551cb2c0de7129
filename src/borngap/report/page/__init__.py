"""The page: HTML, its templates, style sheet and script."""
