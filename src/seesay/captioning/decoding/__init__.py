"""Greedy decoding, beam search and sampling in one engine."""
