"""Data sets of clips: clips of one length and size on disk, as arrays that are mapped, not read.

A folder holds one .npy file for each known field of the clips, and an index. Drawing or decoding a
clip takes longer than one training step, so it is done once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.lib import format as npy

from ...errors import FlashHeadError
from ...files import replacing
from ...geometry import SAMPLES_PER_FRAME
from .clips import Clip

_INDEX = "clips.json"
_PER_FRAME = ("video", "openness", "width", "mouth", "face", "eyes", "pose")
_FIELDS = (*_PER_FRAME, "waveform", "portrait", "context")


class _Rows:
    """A .npy file that grows by one row at a time."""

    def __init__(self, file: BinaryIO, row: np.ndarray):
        self.file, self.dtype, self.shape = file, row.dtype, row.shape
        self._write_header(0)

    def append(self, row: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(row).data)

    def finish(self, count: int) -> None:
        self.file.seek(0)
        self._write_header(count)

    def _write_header(self, count: int) -> None:
        # numpy pads the header so that the first axis can grow in place.
        header = {
            "descr": npy.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (count, *self.shape),
        }
        npy.write_array_header_1_0(self.file, header)


def write_clips(folder: str | Path, clips: Iterable[Clip], count: int | None = None) -> Path:
    """Store clips of equal length, size and known fields; what they do not know is left out.

    Args:
        folder: of the data set; one that is there already is replaced.
        clips: read one by one.
        count: how many must come, and are read; None means all.

    Raises:
        FlashHeadError: no clip or fewer than `count` came, or clips differ in their fields.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _INDEX).unlink(missing_ok=True)
    for name in _FIELDS:
        (folder / f"{name}.npy").unlink(missing_ok=True)
    identities: list[int | None] = []
    with ExitStack() as files:
        rows: dict[str, _Rows] = {}
        for clip in clips:
            known = {
                name: value.numpy()
                for name in _FIELDS
                if (value := getattr(clip, name)) is not None
            }
            if not identities:
                for name, value in known.items():
                    file = files.enter_context((folder / f"{name}.npy").open("wb"))
                    rows[name] = _Rows(file, value)
            if {name: value.shape for name, value in known.items()} != {
                name: row.shape for name, row in rows.items()
            }:
                raise FlashHeadError(
                    f"{folder}: clip {len(identities)} has other fields or another length or size "
                    "than the first; expected equal clips."
                )
            for name, value in known.items():
                rows[name].append(value)
            identities.append(clip.identity)
            if len(identities) == count:
                break
        for row in rows.values():
            row.finish(len(identities))
    if len(identities) < (count or 1):
        raise FlashHeadError(
            f"{folder}: {len(identities)} clips came; expected {count or 'at least one'}."
        )
    # Last, so that a folder whose writing was cut off is not taken for a data set.
    with replacing(folder / _INDEX) as index:
        index.write((json.dumps({"identities": identities}) + "\n").encode())
    return folder


class ClipDataset:
    """The clips of a folder that `write_clips` made, each of them read when it is asked for.

    Args:
        folder: of the data set.
        needed: fields of `Clip` that the caller needs to be known.

    Raises:
        FlashHeadError: no data set, or one whose clips do not know a needed field.
    """

    def __init__(self, folder: str | Path, needed: Iterable[str] = ()):
        self.folder = Path(folder)
        index = self.folder / _INDEX
        if not index.is_file():
            raise FlashHeadError(f"{index} does not exist; make the data set first.")
        self.identities: list[int | None] = json.loads(index.read_text("utf-8"))["identities"]
        paths = {name: self.folder / f"{name}.npy" for name in _FIELDS}
        self.arrays = {
            name: np.load(path, mmap_mode="r") for name, path in paths.items() if path.is_file()
        }
        if missing := [name for name in needed if name not in self.arrays]:
            raise FlashHeadError(
                f"The clips of {self.folder} do not know their {missing[0]}; this needs drawn "
                "clips, of the draw command."
            )

    def __len__(self) -> int:
        return len(self.identities)

    def __iter__(self) -> Iterator[Clip]:
        return (self[index] for index in range(len(self)))

    @property
    def frames(self) -> int:
        """Of each clip."""
        return self.arrays["video"].shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the clips in pixels."""
        _, _, height, width, _ = self.arrays["video"].shape
        return height, width

    def __getitem__(self, index: int) -> Clip:
        return self.part(index, 0, self.frames)

    def part(self, index: int, start: int, frames: int) -> Clip:
        """Some frames of one clip, with its portrait; only they are read.

        Speech before them is not given as `context` unless they begin the clip.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        stop = start + frames
        values = {}
        for name, array in self.arrays.items():
            if name == "context" and start:
                continue
            row = array[index]
            if name == "waveform":
                row = row[start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME]
            elif name in _PER_FRAME:
                row = row[start:stop]
            values[name] = torch.from_numpy(np.array(row))
        return Clip(**values, identity=self.identities[index])
