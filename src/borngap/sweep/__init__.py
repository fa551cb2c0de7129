"""Sweeps: many runs of one model over contexts, rates and seeds. A plan is data; an engine carries it out."""
