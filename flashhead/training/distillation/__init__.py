"""Stage 2: distribution matching distillation to a few steps (DESIGN §1.8)."""
