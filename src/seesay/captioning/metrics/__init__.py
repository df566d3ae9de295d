"""Caption metrics, exact and without Java, and their significance."""
