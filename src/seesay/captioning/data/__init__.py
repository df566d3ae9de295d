"""Captions and vocabularies: reading, cleaning, splitting, tokenizing and batching."""
