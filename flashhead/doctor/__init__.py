"""What a machine and a checkpoint are like, and whether they work: a page for a bug report."""
