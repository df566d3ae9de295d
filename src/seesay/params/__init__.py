"""Typed models of params.yaml.

Each part of the pipeline has its own module, so that a stage depends on its own part only.
"""
