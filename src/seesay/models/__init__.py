"""The networks, one architecture per file; they know tensors and ids, never datasets."""
