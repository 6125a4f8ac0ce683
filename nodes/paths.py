"""Where checkpoints are looked for, and how they are named in the node's list.

The pocket checkpoint comes with the pack. Everything else is under ComfyUI's folder name
`flashhead`: `models/flashhead`, what extra_model_paths.yaml adds to it, and the folder where other
node packs put the same model.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

import folder_paths

from ..flashhead.checkpoint.layout import (
    AUDIO_WEIGHTS,
    GENERATOR_FOLDERS,
    LORA_WEIGHTS,
    TINY_VAE,
    TINY_VAE_FILES,
    VAE_FILES,
    WEIGHTS,
    find_adapter,
)
from ..flashhead.checkpoint.loading import Checkpoint, open_checkpoint
from ..flashhead.errors import CheckpointError
from ..flashhead.pocket import NAME as POCKET
from ..flashhead.pocket import place_of
from ..flashhead.variants import REPOSITORY

FOLDER = "flashhead"
_PARTS = {WEIGHTS, AUDIO_WEIGHTS, LORA_WEIGHTS, *TINY_VAE_FILES, *sum(VAE_FILES.values(), ())}
ONE_STEP = "Pro, one step"
"""LeapTalk's name in the list, in the place of Model_Pro."""


def register_folders() -> None:
    """Tell ComfyUI about the folders; safe to call again."""
    models = Path(folder_paths.models_dir)
    for folder in (models / "flashhead", models / "Soul-AILab"):
        folder_paths.add_model_folder_path(FOLDER, str(folder))
    paths, extensions = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {*extensions, ".safetensors"})


def checkpoint_names() -> list[str]:
    """Pocket, then generator folders and one-file bundles by their path under the model folders,
    with forward slashes on any system, so that a workflow can be shared."""
    # First, because the first is the default: a new node runs before anything is downloaded.
    names = [POCKET]
    for file in folder_paths.get_filename_list(FOLDER):
        path = PurePath(file)
        if path.name not in _PARTS:
            names.append(path.as_posix())
        elif path.name == WEIGHTS and path.parent.name in GENERATOR_FOLDERS.values():
            names.append(path.parent.as_posix())
            if path.parent.name == GENERATOR_FOLDERS["leaptalk"] and _has_adapter(file):
                names.append((path.parent.parent / ONE_STEP).as_posix())
    return names


def _has_adapter(weights: str) -> bool:
    """Whether LeapTalk's files are in or beside the folder of Pro's weight file."""
    found = folder_paths.get_full_path(FOLDER, weights)
    return found is not None and find_adapter(Path(found).parent.parent) is not None


def find_named(name: str) -> Path:
    """The generator's folder or the file that a name in the list stands for."""
    if name == POCKET:
        return place_of(name)
    if variant_named(name):
        name = str(PurePath(name).with_name(GENERATOR_FOLDERS["leaptalk"]))
    is_folder = PurePath(name).name in GENERATOR_FOLDERS.values()
    file = folder_paths.get_full_path(FOLDER, str(PurePath(name) / WEIGHTS if is_folder else name))
    if file is None:
        where = ", ".join(folder_paths.get_folder_paths(FOLDER))
        raise CheckpointError(
            f"The checkpoint '{name}' is in none of {where}; download {REPOSITORY} into the first, "
            "then refresh the page."
        )
    return Path(file).parent if is_folder else Path(file)


def variant_named(name: str) -> str | None:
    """The variant that a name in the list says beside its folder; None where that is enough."""
    return "leaptalk" if PurePath(name).name == ONE_STEP else None


def open_named(name: str, vae: str | None = None) -> Checkpoint:
    """The checkpoint that a name in the list stands for, its headers checked.

    vae: "tiny" for the tiny autoencoder; None for the checkpoint's own. Where it is not beside its
    generator, either is taken from ComfyUI's own VAE folders, or a folder in them.
    """
    found = find_named(name)
    if vae == TINY_VAE:
        vae = _in_folders(("vae_approx", "vae"), TINY_VAE_FILES) or vae
    elif found.is_dir():
        vae = _vae_elsewhere(found)
    return open_checkpoint(found, variant_named(name), vae=vae)


def _in_folders(folders: Iterable[str], names: Sequence[str]) -> str | None:
    """The first of some files in ComfyUI's model folders, or a folder in them."""
    lower = {name.lower() for name in names}
    for folder in folders:
        for file in folder_paths.get_filename_list(folder):
            if PurePath(file).name.lower() in lower:
                return folder_paths.get_full_path(folder, file)
    return None


def _vae_elsewhere(generator: Path) -> str | None:
    names = VAE_FILES["VAE_Wan"]
    if generator.name == GENERATOR_FOLDERS["lite"] or any(
        (generator.parent / "VAE_Wan" / name).is_file() for name in names
    ):
        return None
    return _in_folders(["vae"], names)
