"""What a weight file is, told by its header alone."""

from __future__ import annotations

from ..errors import CheckpointError
from .bundle_file import PARTS, is_bundle
from .ltx_file import is_ltx
from .wan_file import is_wan
from .weights import Weights

GENERATOR = "a generator"
VAE = "a VAE"
AUDIO_ENCODER = "an audio encoder"
BUNDLE = "a one-file bundle"


def role_of(file: Weights) -> str:
    """One of the four roles. Raises `CheckpointError` for a file that is none of ours."""
    keys = file.shapes.keys()
    if is_bundle(file):
        return BUNDLE
    if "audio_proj.proj1.weight" in keys:
        return GENERATOR
    if {key.partition(".")[0] for key in keys} == set(PARTS):
        raise CheckpointError(
            f"{file.where} was a one-file bundle, but its metadata, which holds the configs, is "
            "gone; convert the published folder anew."
        )
    if is_ltx(keys) or is_wan(keys):
        return VAE
    if any(key.startswith(("wav2vec2.", "feature_extractor.conv_layers.")) for key in keys):
        return AUDIO_ENCODER
    example = f" named like '{next(iter(keys))}'" if keys else ""
    raise CheckpointError(
        f"{file.where} holds {len(keys)} tensors{example}; expected a FlashHead bundle, a "
        "generator, its VAE (LTX 0.9.0 or Wan 2.1) or wav2vec2."
    )
