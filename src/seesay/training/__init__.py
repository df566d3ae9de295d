"""What the trainings of all tasks share: the loop, optimizers, checkpoints, resuming."""
