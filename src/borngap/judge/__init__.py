"""What became of a run: trajectories, verdicts and stopping rules, from recorded numbers alone."""
