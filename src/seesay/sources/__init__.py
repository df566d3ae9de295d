"""Bytes from elsewhere, checked and resumed: downloads, mirrors, user-supplied files, provenance."""
