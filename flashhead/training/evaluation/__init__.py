"""Measures of a talking-head video whose truth is known: lip sync, fidelity, drift, seams.

Not imported by `flashhead` itself. `python -m flashhead.metrics` writes a report.
"""
