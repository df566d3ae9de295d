"""The data: sources, splits, packed arrays, captions, tokens."""
