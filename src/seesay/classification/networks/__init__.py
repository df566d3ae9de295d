"""Classifier architectures, one per module, and their registry."""
