"""Data sets as people have them: files and objects as rows, and what their fields mean."""
