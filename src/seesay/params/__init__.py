"""Typed mirror of params.yaml, a module per part of the flow, so that a stage depends on its own part only."""
