"""Training code shared by all tasks: the loop, optimizers, checkpoints, resuming."""
