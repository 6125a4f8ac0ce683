"""Where checkpoints are looked for, and how they are named in the node's list.

The pocket checkpoint comes with the pack. Everything else is under ComfyUI's folder name
`flashhead`: `models/flashhead`, what extra_model_paths.yaml adds to it, and the folder where other
node packs put the same model.
"""

from pathlib import Path, PurePath

import folder_paths

from ..flashhead.checkpoint.layout import AUDIO_WEIGHTS, GENERATOR_FOLDERS, VAE_FILES, WEIGHTS
from ..flashhead.checkpoint.loading import Checkpoint, open_checkpoint
from ..flashhead.errors import CheckpointError
from ..flashhead.pocket import NAME as POCKET
from ..flashhead.pocket import place_of
from ..flashhead.variants import REPOSITORY

FOLDER = "flashhead"
_PARTS = {WEIGHTS, AUDIO_WEIGHTS, *(name for names in VAE_FILES.values() for name in names)}


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
    return names


def find_named(name: str) -> Path:
    """The generator's folder or the file that a name in the list stands for."""
    if name == POCKET:
        return place_of(name)
    is_folder = PurePath(name).name in GENERATOR_FOLDERS.values()
    file = folder_paths.get_full_path(FOLDER, str(PurePath(name) / WEIGHTS if is_folder else name))
    if file is None:
        where = ", ".join(folder_paths.get_folder_paths(FOLDER))
        raise CheckpointError(
            f"The checkpoint '{name}' is in none of {where}; download {REPOSITORY} into the first, "
            "then refresh the page."
        )
    return Path(file).parent if is_folder else Path(file)


def open_named(name: str) -> Checkpoint:
    """The checkpoint that a name in the list stands for, its headers checked.

    A Wan VAE that is not beside its generator is taken from ComfyUI's own VAE folder, or a
    folder in it.
    """
    found = find_named(name)
    return open_checkpoint(found, vae=_vae_elsewhere(found) if found.is_dir() else None)


def _vae_elsewhere(generator: Path) -> str | None:
    names = VAE_FILES["VAE_Wan"]
    if generator.name == GENERATOR_FOLDERS["lite"] or any(
        (generator.parent / "VAE_Wan" / name).is_file() for name in names
    ):
        return None
    lower = {name.lower() for name in names}
    for file in folder_paths.get_filename_list("vae"):
        if PurePath(file).name.lower() in lower:
            return folder_paths.get_full_path("vae", file)
    return None
