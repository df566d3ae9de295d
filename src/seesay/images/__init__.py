"""Labelled images: reading archives, decoding, splitting, packing and batching."""
