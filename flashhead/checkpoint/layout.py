"""Finding a checkpoint's files: in the published folder, and beside it (DESIGN §1.1)."""

import difflib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import CheckpointError
from ..variants import ADAPTER_REPOSITORY, AUDIO_REPOSITORY, REPOSITORY, VARIANTS

GENERATOR_FOLDERS = {name: variant.generator for name, variant in VARIANTS.items()}
VAE_FOLDERS = {name: variant.vae for name, variant in VARIANTS.items()}
CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
VAE_FILES = {"VAE_LTX": (WEIGHTS,), "VAE_Wan": ("Wan2.1_VAE.pth", "wan_2.1_vae.safetensors")}
TINY_VAE, TINY_VAE_FILES = "tiny", ("taew2_1.pth", "taew2_1.safetensors")
"""What to give as the VAE for the tiny autoencoder, and the names of its file."""
AUDIO_ENCODER = "wav2vec2-base-960h"
AUDIO_WEIGHTS = "model.safetensors"
_AUDIO_CACHE = "models--facebook--wav2vec2-base-960h"
ADAPTER_FOLDERS = ("LeapTalk", "leaptalk")
LORA_CONFIG, LORA_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""PEFT's names."""
PROJECTIONS = "audio_proj_step_*.pt"
_ADAPTER_CACHE = "models--z-rx--leaptalk"


def find_variants(root: Path) -> list[str]:
    """The variants whose generator is in a published folder, be it a half of it, with the adapter
    that they need; where there is none, those whose folder is."""
    folders = {
        variant.name: root / variant.generator
        for variant in VARIANTS.values()
        if (root / variant.generator).is_dir()
        and (not variant.adapts or find_adapter(root) is not None)
    }
    begun = [v for v, f in folders.items() if (f / CONFIG).is_file() or (f / WEIGHTS).is_file()]
    return begun or list(folders)


def find_adapter(root: Path) -> Path | None:
    """LeapTalk's folder, which holds its LoRA in `lora`: in a published folder or beside it."""
    root = root.absolute()
    folders = [base / name for base in (root, root.parent) for name in ADAPTER_FOLDERS]
    folders += [find_snapshot(base / _ADAPTER_CACHE) for base in root.parents[1:3]]
    return next((folder for folder in folders if (folder / "lora" / LORA_WEIGHTS).is_file()), None)


def find_projection(folder: Path) -> Path | None:
    """The audio projection in a folder: the one of the latest training step."""

    def step(path: Path) -> int:
        return int(re.sub(r"\D", "", path.stem) or -1)

    return max(folder.glob(PROJECTIONS), key=step, default=None)


def find_snapshot(path: Path) -> Path:
    """The folder with a repository's files, given its folder in Hugging Face's cache.

    The cache keeps them in models--OWNER--NAME/snapshots/REVISION. Any other path comes back as it
    is.
    """
    revisions = path / "snapshots"
    if not revisions.is_dir():
        return path
    try:
        return revisions / (path / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):  # downloaded by its revision, so no branch is recorded
        return max(revisions.iterdir(), key=lambda folder: folder.stat().st_mtime, default=path)


def check_variant(variant: str | None) -> None:
    """Raise `CheckpointError` for an unknown variant; None passes."""
    if variant is not None and variant not in VARIANTS:
        raise CheckpointError(
            f"Unknown variant '{variant}'; expected one of {', '.join(VARIANTS)}."
        )


def find_layout(
    path: str | Path,
    variant: str | None = None,
    *,
    vae: str | Path | None = None,
    audio_encoder: str | Path | None = None,
) -> tuple[str, Path, Path, Path]:
    """Find a variant's components, which may lie in several folders.

    Args:
        path: the folder that holds Model_Lite, VAE_LTX and so on (as downloaded, or as Hugging
            Face's cache has it), or one Model_* folder, or the weight file in it.
        variant: a name in `VARIANTS`; None means the only one there, LeapTalk's aside.
        vae: its weight file or folder; None means in the variant's folder beside the generator's,
            "tiny" means as `vae_path` says.
        audio_encoder: its folder or weight file; None means inside the published folder, or where
            Hugging Face's tools and other node packs put it (see `_audio_folders`).

    Returns:
        The variant, and the paths of its generator, VAE and audio encoder, each a folder or a
        weight file.

    Raises:
        CheckpointError: nothing there, several variants and none named, an unknown variant, or a
            file missing (the message says where to download it).
    """
    check_variant(variant)
    root = find_snapshot(Path(path))
    if root.is_file() or (root / WEIGHTS).is_file():
        generator = root
        folder = root.parent if root.is_file() else root
        variant = _variant_of(folder, variant)
        root = folder.absolute().parent
    else:
        variant = _choose_variant(root, variant)
        generator = folder = root / GENERATOR_FOLDERS[variant]
        require(folder / WEIGHTS, REPOSITORY)
    require(folder / CONFIG, REPOSITORY)
    return (
        variant,
        generator,
        _find_vae(root, variant) if vae is None else vae_path(vae, root, variant),
        _find_audio_encoder(root) if audio_encoder is None else Path(audio_encoder),
    )


def _variant_of(folder: Path, variant: str | None) -> str:
    """The variant of a generator's own folder, by its name or as the caller says."""
    name = folder.absolute().name
    by_name = [v for v, published in GENERATOR_FOLDERS.items() if published == name]
    named = variant if variant in by_name else next(iter(by_name), variant)
    if named is None:
        raise CheckpointError(
            f"{folder} does not say by its name which variant it holds; name it: "
            f"{', '.join(GENERATOR_FOLDERS)}."
        )
    if variant not in (None, named):
        raise CheckpointError(
            f"{folder} holds variant '{named}', not '{variant}', by its published name."
        )
    return named


def _choose_variant(root: Path, variant: str | None) -> str:
    """The variant to load from a folder that may hold several."""
    if not root.is_dir():
        raise CheckpointError(
            f"{root} is not a folder, nor a file that exists; expected the folder of {REPOSITORY} "
            "as downloaded, or a one-file bundle."
        )
    present = find_variants(root)
    if not present:
        folders = dict.fromkeys(GENERATOR_FOLDERS.values())
        raise CheckpointError(
            f"{root} holds no generator ({' or '.join(folders)}, each with a "
            f"config.json); download {REPOSITORY} into it."
        )
    if variant is None:
        # An adapter that is put beside a model changes nothing for those who name none.
        variant, *others = (name for name in present if not VARIANTS[name].adapts)
        if others:
            raise CheckpointError(
                f"{root} holds several variants ({', '.join(present)}); name the one to load."
            )
    if not (root / GENERATOR_FOLDERS[variant]).is_dir():
        raise CheckpointError(
            f"{root} has no {GENERATOR_FOLDERS[variant]} folder, which variant '{variant}' needs; "
            f"it holds {', '.join(present)}. Download it from {REPOSITORY}."
        )
    return variant


def require(file: Path, repository: str) -> None:
    """Raise `CheckpointError` unless a file is there; it says where to download it."""
    if not file.is_file():
        raise CheckpointError(f"{_absence(file)}; download it from {repository}.")


def _absence(file: Path) -> str:
    """What is in the place of a file that is not there, as the beginning of a sentence."""
    if file.is_dir():
        return f"{file} is a folder; expected the file of this name"
    names: dict[str, str] = {}
    with suppress(OSError):
        names = {
            name.lower(): name for name in sorted(os.listdir(file.parent)) if name != file.name
        }
    for near in difflib.get_close_matches(file.name.lower(), names, n=1, cutoff=0.8):
        return f"{file} does not exist ({names[near]} does: this file under a wrong name?)"
    return f"{file} does not exist"


def _find_vae(root: Path, variant: str) -> Path:
    folder = root / VAE_FOLDERS[variant]
    names = VAE_FILES[VAE_FOLDERS[variant]]
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None and VARIANTS[variant].adapts:
        found = _tiny_vae(root)
    if found is None:
        raise CheckpointError(
            f"{_absence(folder / names[0])}; variant '{variant}' needs it. Download it from "
            f"{REPOSITORY}, or say where the VAE is."
        )
    return found


def _tiny_vae(root: Path) -> Path | None:
    folders = [root / "VAE_Wan", root]
    if (adapter := find_adapter(root)) is not None:
        folders.append(adapter)
    files = (folder / name for folder in folders for name in TINY_VAE_FILES)
    return next((file for file in files if file.is_file()), None)


def vae_path(vae: str | Path, root: Path, variant: str) -> Path:
    """A VAE's path as given; for "tiny" the tiny autoencoder's in a published folder, in its
    VAE_Wan or LeapTalk's. Raises `CheckpointError` where it is not there, or of no use."""
    if str(vae) != TINY_VAE or Path(vae).exists():
        return Path(vae)
    if VAE_FOLDERS[variant] != "VAE_Wan":
        raise CheckpointError(f"The tiny VAE is for Pro; variant '{variant}' has only its own.")
    found = _tiny_vae(root)
    if found is None:
        raise CheckpointError(
            f"{root / 'VAE_Wan' / TINY_VAE_FILES[0]} does not exist; download the tiny autoencoder "
            f"from {ADAPTER_REPOSITORY}, or say where it is."
        )
    return found


def _find_audio_encoder(root: Path) -> Path:
    folders = [folder for folder in _audio_folders(root) if folder.is_dir()]
    if not folders:
        raise CheckpointError(
            f"{root / AUDIO_ENCODER} does not exist, nor beside the folder; download "
            f"{AUDIO_REPOSITORY} ({CONFIG} and {AUDIO_WEIGHTS}) into it, or say where the audio "
            "encoder is."
        )
    names = CONFIG, AUDIO_WEIGHTS
    return max(folders, key=lambda folder: sum((folder / name).is_file() for name in names))


def _audio_folders(root: Path) -> Iterator[Path]:
    """Folders that may hold the audio encoder, the likeliest first."""
    root = root.absolute()
    for base in (root, root.parent, root.parent.parent):
        for below in ("", "facebook", "wav2vec/facebook"):
            yield base / below / AUDIO_ENCODER
    for base in root.parents[1:3]:  # root is HUB/models--OWNER--NAME/snapshots/REVISION
        yield find_snapshot(base / _AUDIO_CACHE)
