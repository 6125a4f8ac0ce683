"""Portraits and frames: crop, framing, pasting back, colour, seams."""
