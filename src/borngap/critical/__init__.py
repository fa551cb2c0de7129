"""Which learning rate a context takes, and what a planned run comes to, without training."""
