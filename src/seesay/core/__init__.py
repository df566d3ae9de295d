"""Plumbing that cannot change a number: errors, files, paths, the stage shell, reading settings."""
