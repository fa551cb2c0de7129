"""Before and after: the same places of data under several models, with paired intervals and tests."""
