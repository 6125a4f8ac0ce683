"""Clips: as pixels and sound, and encoded for the generator."""
