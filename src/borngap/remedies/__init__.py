"""Remedies tried as pilots: what makes the right word win in a planned run, what each costs, and which to take."""
