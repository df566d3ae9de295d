"""The token ids with a meaning of their own, as every vocabulary numbers them (a test holds the two together)."""

PAD, BOS, EOS, UNK = 0, 1, 2, 3

NEVER_EMITTED = (PAD, BOS, UNK)
"""What decoding does not choose: a caption is words, then <eos>."""
