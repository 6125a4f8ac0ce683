"""Images as the server saves them, for comparison."""

from __future__ import annotations

import numpy as np


def pixels(images) -> np.ndarray:
    """(n, H, W, 3) int16"""
    return np.stack([np.asarray(image.convert("RGB"), dtype=np.int16) for image in images])
