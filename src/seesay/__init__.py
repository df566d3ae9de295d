"""seesay: train image classifiers and captioners, and say for every number what made it."""
