"""The pocket checkpoint: a small FlashHead that comes with the package (see README.md here).

Its files: the bundle, and drawn portraits of the faces that it can animate.
"""

from pathlib import Path

NAME = "pocket"
"""What it is called wherever a checkpoint is named."""

FOLDER = Path(__file__).parent
BUNDLE = FOLDER / "pocket.safetensors"


def place_of(checkpoint: str | Path) -> Path:
    """Where a checkpoint is that a user named: the pocket one by its name, others by their path."""
    return BUNDLE if checkpoint == NAME else Path(checkpoint)


def portraits() -> dict[str, Path]:
    """A picture of each face that the pocket checkpoint was trained on, by its name."""
    return {path.stem: path for path in sorted((FOLDER / "portraits").glob("*.png"))}
