"""Formats of files of terms: tables and JSON Lines, Vale's substitution rules, TBX."""
