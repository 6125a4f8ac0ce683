"""Drawn faces that talk."""
