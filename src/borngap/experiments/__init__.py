"""The paper's experiments: plans of runs, and pure functions from stored runs to tables, figure data and claims."""
