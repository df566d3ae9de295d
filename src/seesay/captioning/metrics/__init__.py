"""Caption metrics, exact and without Java, with bootstrap intervals and baselines."""
