"""Files to networks and back: layouts, weight files, the one-file bundle, conversion, info."""
