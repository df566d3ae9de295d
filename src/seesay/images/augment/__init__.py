"""Augmentation of whole batches: geometry, colour, mixing."""
