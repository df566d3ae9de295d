"""Autoencoders: training, evaluation and explanation."""
