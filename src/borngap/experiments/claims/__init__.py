"""The claims: their rules, what they measure, the paper's numbers, and the verdicts."""
