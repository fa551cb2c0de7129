"""Reports of FORECAST folders: what a run on a data set will come to."""
