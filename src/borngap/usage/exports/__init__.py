"""Files made of the places of terms: contexts, preference pairs, a logit bias, up-sampled rows."""
