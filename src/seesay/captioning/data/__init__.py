"""Captions and vocabularies: read, cleaned, split, tokenized, batched."""
