"""The training loop, its stages and what they share."""
