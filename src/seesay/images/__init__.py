"""Labelled images: archives read, decoded, split, packed and served in batches."""
