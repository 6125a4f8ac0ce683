"""Stage 1: flow matching of the generator on encoded clips (DESIGN §1.8)."""
