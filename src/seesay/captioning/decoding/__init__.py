"""Decoding of captions: greedy, beam search and sampling."""
