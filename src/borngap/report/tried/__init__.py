"""Reports of REMEDIES folders: what each remedy of a planned run gains and costs, and which to take."""
