"""Whole runs: pilots at a tenth of a planned fine-tuning's cost, and what they foretell of watched words."""
