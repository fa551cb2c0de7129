"""Which learning rate a context takes, and how a planned run ends, without training."""
