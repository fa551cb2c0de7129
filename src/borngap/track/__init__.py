"""Somebody else's training, watched: tracker, callbacks, and the contexts that a host trains on."""
