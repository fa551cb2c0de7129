"""Our own training: methods, the loop, and many runs in one forward."""
