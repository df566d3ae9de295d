"""Training of captioners: by captions, by reward, with the encoder."""
