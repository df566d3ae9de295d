"""One training loop, and what each task's loss is."""
