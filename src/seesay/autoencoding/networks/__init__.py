"""Autoencoder architectures and their registry."""
