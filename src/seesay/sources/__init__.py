"""Checked, resumable retrieval of source files: downloads, mirrors, user-supplied files and provenance."""
