"""Where a checkpoint's files are: the published folder, and what lies beside it (DESIGN §1.1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import CheckpointError
from .variants import VARIANTS

GENERATOR_FOLDERS = {name: variant.generator for name, variant in VARIANTS.items()}
VAE_FOLDERS = {name: variant.vae for name, variant in VARIANTS.items()}
WEIGHTS = "diffusion_pytorch_model.safetensors"
VAE_FILES = {
    "VAE_LTX": (WEIGHTS,),
    "VAE_Wan": ("Wan2.1_VAE.pth", "wan_2.1_vae.safetensors"),
}
AUDIO_ENCODER = "wav2vec2-base-960h"
REPOSITORY = "huggingface.co/Soul-AILab/SoulX-FlashHead-1_3B"
AUDIO_REPOSITORY = "huggingface.co/facebook/wav2vec2-base-960h"


@dataclass(frozen=True)
class Layout:
    """Where a variant's three components are: two folders, and the VAE's file."""

    variant: str
    generator: Path
    vae: Path
    audio_encoder: Path


def find_variants(root: Path) -> list[str]:
    """The variants whose generator is in a published folder."""
    return [v for v, name in GENERATOR_FOLDERS.items() if (root / name / "config.json").is_file()]


def find_layout(path: str | Path, variant: str | None = None) -> Layout:
    """Find a variant's components in a published folder.

    Args:
        path: folder that holds Model_Lite, VAE_LTX and so on; the audio encoder is inside it or
            where the Hugging Face tools and other node packs put it beside.
        variant: "lite", "pro" or "pretrained"; None means the only one there.

    Raises:
        CheckpointError: nothing there, several variants and none named, an unknown variant, or a
            component missing (with the place it can be downloaded from).
    """
    root = Path(path)
    if variant is not None and variant not in GENERATOR_FOLDERS:
        raise CheckpointError(
            f"Unknown variant '{variant}'; expected one of {', '.join(GENERATOR_FOLDERS)}."
        )
    if not root.is_dir():
        raise CheckpointError(
            f"{root} is not a folder; expected the folder of {REPOSITORY} as downloaded."
        )
    present = find_variants(root)
    if not present:
        raise CheckpointError(
            f"{root} holds no generator ({' or '.join(GENERATOR_FOLDERS.values())}, each with a "
            f"config.json); download {REPOSITORY} into it."
        )
    if variant is None:
        if len(present) > 1:
            raise CheckpointError(
                f"{root} holds several variants ({', '.join(present)}); name the one to load."
            )
        variant = present[0]
    elif variant not in present:
        raise CheckpointError(
            f"{root} has no {GENERATOR_FOLDERS[variant]} folder, which variant '{variant}' needs; "
            f"it holds {', '.join(present)}. Download it from {REPOSITORY}."
        )
    folder = root / VAE_FOLDERS[variant]
    names = VAE_FILES[VAE_FOLDERS[variant]]
    vae = next((folder / name for name in names if (folder / name).is_file()), None)
    if vae is None:
        raise CheckpointError(
            f"{folder / names[0]} does not exist; variant '{variant}' needs it. Download it from "
            f"{REPOSITORY}."
        )
    return Layout(variant, root / GENERATOR_FOLDERS[variant], vae, _find_audio_encoder(root))


def _find_audio_encoder(root: Path) -> Path:
    for base in (root, root.parent, root.parent.parent):
        for below in ("", "facebook", "wav2vec/facebook"):
            folder = base / below / AUDIO_ENCODER
            if (folder / "config.json").is_file():
                return folder
    raise CheckpointError(
        f"{root / AUDIO_ENCODER} does not exist, nor beside the folder; download "
        f"{AUDIO_REPOSITORY} (config.json and model.safetensors) into it."
    )
