"""Synthetic speech whose mouth shapes are known."""
