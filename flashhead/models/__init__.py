"""The networks, the backend that they are built on, and the three of a variant as a `Bundle`."""
