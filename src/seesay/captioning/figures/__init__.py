"""Figures about captioners."""
