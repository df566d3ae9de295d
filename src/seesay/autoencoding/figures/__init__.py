"""Figures about autoencoders."""
