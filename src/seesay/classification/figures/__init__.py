"""Figures about classifiers."""
