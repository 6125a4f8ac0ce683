"""Warnings about a face that is too small, cut off or off-centre in its portrait."""

from .crop import Box, Crop

# Fewer pixels than this, and the mouth (a third of a face's width) is under 40 pixels wide: the
# usual portrait, whose face has some 285, would enlarge it more than twice.
MIN_SOURCE_FACE = 128

# A latent pixel of Lite stands for 32x32 pixels: in a face under four of them, the mouth is one. In
# a portrait below 512 pixels, for a smaller model, a quarter of it counts.
MIN_PORTRAIT_FACE = 128

# Detectors' boxes are off by about this share of the face.
CUT_TOLERANCE = 0.03

# Shares of the portrait. The model was trained on centred faces; up and down there is more room,
# because shoulders below put a well framed face above the middle.
MAX_SIDEWAYS = 0.15
MAX_UPRIGHT = 0.2


def framing_warnings(face: Box, crop: Crop) -> list[str]:
    """Sentences for the user about a face (in pixels of the picture) and a crop of that picture.

    Each says what is wrong and what would help: a face that is small in the picture or in the
    portrait, cut off by the picture's edge or by the crop, or off-centre. Usually there are none.
    """
    warnings = []
    side = max(face.width, face.height)
    height, width = crop.size
    in_portrait = max(face.width * width / crop.width, face.height * height / crop.height)
    least = min(MIN_PORTRAIT_FACE, min(crop.size) // 4)
    if side < MIN_SOURCE_FACE:
        warnings.append(
            f"The face is only {side:.0f} pixels large in the picture and will be blurry; use a "
            f"picture where it has at least {MIN_SOURCE_FACE}."
        )
    if in_portrait < least:
        warnings.append(
            f"The face is only {in_portrait:.0f} pixels large in the portrait, too few for the "
            f"lips to move well; crop closer, so that it has at least {least}."
        )
    height, width = crop.source
    by_picture = _cut_sides(face, (0, 0, width, height), 0.0)
    if by_picture:
        warnings.append(
            f"The face touches the picture's {' and '.join(by_picture)} edge and may be cut off; "
            "use a picture that shows all of it."
        )
    edges = (crop.left, crop.top, crop.right, crop.bottom)
    by_crop = _cut_sides(face, edges, -CUT_TOLERANCE * side)
    by_crop = [name for name in by_crop if name not in by_picture]
    if by_crop:
        warnings.append(
            f"The crop cuts the face off at the {' and '.join(by_crop)}; use a larger ratio or box."
        )
    right = (face.x + face.width / 2 - (crop.left + crop.right) / 2) / crop.width
    down = (face.y + face.height / 2 - (crop.top + crop.bottom) / 2) / crop.height
    sides = [("left", "right")[right > 0]] if abs(right) > MAX_SIDEWAYS else []
    sides += [("top", "bottom")[down > 0]] if abs(down) > MAX_UPRIGHT else []
    if sides:
        warnings.append(
            f"The face is far to the {' and '.join(sides)} of the portrait; crop around the face "
            "to centre it."
        )
    return warnings


def _cut_sides(face: Box, edges: tuple[float, float, float, float], margin: float) -> list[str]:
    """The edges (left, top, right, bottom) that the face comes within `margin` pixels of."""
    left, top, right, bottom = edges
    room = (face.x - left, face.y - top, right - face.right, bottom - face.bottom)
    names = ("left", "top", "right", "bottom")
    return [name for name, space in zip(names, room, strict=True) if space <= margin]
