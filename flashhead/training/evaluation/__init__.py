"""Measures of a talking-head video whose truth is known: lip sync, fidelity, drift, seams."""
