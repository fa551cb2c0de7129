"""Scanning a data set: which of its targets have a near-synonym in front."""
