"""Where checkpoints are looked for, and how they are named in the node's list.

Everything is under ComfyUI's folder name `flashhead`: `models/flashhead`, what
extra_model_paths.yaml adds to it, and the folder where other node packs put the same model.
"""

from pathlib import Path, PurePath

import folder_paths

from ..flashhead.errors import CheckpointError
from ..flashhead.layout import GENERATOR_FOLDERS, REPOSITORY, WEIGHTS

FOLDER = "flashhead"
_EXTENSIONS = {".safetensors"}


def register_folders() -> None:
    """Tell ComfyUI about the folders; safe to call again."""
    models = Path(folder_paths.models_dir)
    for folder in (models / "flashhead", models / "Soul-AILab"):
        folder_paths.add_model_folder_path(FOLDER, str(folder))
    paths, extensions = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, set(extensions) | _EXTENSIONS)


def checkpoint_names() -> list[str]:
    """Generator folders by their path under the model folders, with forward slashes on any
    system, so that a workflow can be shared."""
    names = []
    for file in folder_paths.get_filename_list(FOLDER):
        path = PurePath(file)
        if path.name == WEIGHTS and path.parent.name in GENERATOR_FOLDERS.values():
            names.append(path.parent.as_posix())
    return names


def find_checkpoint(name: str) -> tuple[Path, str]:
    """The published folder and the variant that a name in the list stands for."""
    if PurePath(name).name in GENERATOR_FOLDERS.values():
        file = folder_paths.get_full_path(FOLDER, str(PurePath(name) / WEIGHTS))
        if file is not None:
            generator = Path(file).parent
            variants = {folder: variant for variant, folder in GENERATOR_FOLDERS.items()}
            return generator.parent, variants[generator.name]
    where = ", ".join(folder_paths.get_folder_paths(FOLDER))
    raise CheckpointError(
        f"The checkpoint '{name}' is in none of {where}; download {REPOSITORY} into the first, "
        "then refresh the page."
    )
