"""seesay: train image classifiers and captioners, and record what produced every number."""
