"""FLASHHEAD_CROP: a `flashhead.crop.Crop`, where a portrait was cut out of a picture.

From Prepare Portrait to Paste Back. Frozen, and without pixels.
"""

from comfy_api.latest import io

CropType = io.Custom("FLASHHEAD_CROP")
