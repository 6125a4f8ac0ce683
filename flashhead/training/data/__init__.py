"""Clips: as pixels and sound, from videos, and encoded for the generator."""
