"""Proofs: small files of numbers that a stage computed, by which its code is compared with other code."""
