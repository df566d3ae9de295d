"""Training of captioners: by cross-entropy, by reward, and together with the encoder."""
