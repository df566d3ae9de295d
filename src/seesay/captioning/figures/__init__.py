"""Figures of captioners."""
