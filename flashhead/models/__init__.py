"""The networks, what they are built from, and the three of a variant as one `Bundle`."""
