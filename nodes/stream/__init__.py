"""Streams: the samplers of whole clips, the nodes of single chunks, saved states."""
