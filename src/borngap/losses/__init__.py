"""Losses that look at the rival: what is added to the cross-entropy where a word has one, as pure functions."""
