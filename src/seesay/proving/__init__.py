"""Proofs: small files of numbers computed by a stage, which show whether a change of its code changes its results."""
