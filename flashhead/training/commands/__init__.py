"""A file for each `python -m flashhead.training` command."""
