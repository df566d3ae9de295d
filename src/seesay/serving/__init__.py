"""Trained models in use: bundles, prediction in Python and on the command line, and a server."""
