"""Image captioners: data, features, networks, decoding, training, scores, comparison."""
