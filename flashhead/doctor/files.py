"""What lies in a checkpoint's place: files, formats, dtypes, and whether they are the published."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..checkpoint.layout import find_adapter, find_snapshot, find_variants
from ..checkpoint.loading import Checkpoint, open_checkpoint
from ..checkpoint.published import PUBLISHED, compare, sha256_of
from ..checkpoint.weights import TORCH_SUFFIXES, TorchFile, check_file, open_weights
from ..errors import CheckpointError, reason
from ..files import read_object
from ..pocket import place_of
from .report import Row

OnBytes = Callable[[int, int], None]
"""Called with the bytes read so far and all that there are."""

_SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
_CONFIGS = {Path(name).name for name in PUBLISHED if name.endswith(".json")}
_MOST = 14


class Place(NamedTuple):
    """A folder or file, and what opens each variant in it, by name."""

    path: Path
    opens: Mapping[str, Callable[[], Checkpoint]]


def place_at(path: str | Path, **parts: Any) -> Place:
    """The place of a checkpoint, named as `open_checkpoint` takes it and its parts."""
    found = find_snapshot(place_of(path)).absolute()
    variants: list[str | None] = [*find_variants(found)] or [None]
    opens = {v or "checkpoint": partial(open_checkpoint, found, v, **parts) for v in variants}
    return Place(found, opens)


def checkpoint_rows(place: Place, on_bytes: OnBytes | None = None) -> Iterator[Row]:
    """Whether each variant opens, then the files: size, format, dtypes, whether published so.

    on_bytes: given, files are read whole and their checksums compared.
    """
    yield Row("in", str(place.path))
    used: dict[Path, None] = {}
    for name, opens in place.opens.items():
        try:
            checkpoint = opens()
        except CheckpointError as error:
            yield Row(name, str(error), wrong=True)
            continue
        also = "" if name == checkpoint.variant else f", as {checkpoint.variant}"
        yield Row(name, f"can be loaded{also}")
        used |= dict.fromkeys(part.file.path.absolute() for part in checkpoint.parts.values())
    files = [path for path in used | dict.fromkeys(_files_in(place.path)) if path.exists()]
    total, read = sum(path.stat().st_size for path in files[:_MOST]), 0

    def count(size: int) -> None:
        nonlocal read
        read += size
        if on_bytes is not None:
            on_bytes(read, total)

    for path in files[:_MOST]:
        inside = path != place.path and path.is_relative_to(place.path)
        label = (path.relative_to(place.path) if inside else Path(path.name)).as_posix()
        yield _file_row(label, path, None if on_bytes is None else count)
    if files[_MOST:]:
        yield Row("more", f"{len(files) - _MOST} files that are not looked into")


def _files_in(path: Path) -> list[Path]:
    """Weights and configs in a folder and in those within it, or the file itself."""
    if not path.is_dir():
        return [path]
    folders = filter(None, (path, find_adapter(path)))
    found = [p for f in folders for p in (*f.glob("[!.]*"), *f.glob("[!.]*/[!.]*"))]
    wanted = (p for p in found if p.suffix in _SUFFIXES or p.name in _CONFIGS)
    return sorted(p for p in wanted if not p.is_dir())


def _file_row(label: str, path: Path, on_bytes: Callable[[int], None] | None) -> Row:
    size, name = path.stat().st_size, "/".join(path.parts[-2:])
    facts: dict[str, Any] = {"bytes": size}
    known, wrong, verdict = PUBLISHED.get(name), False, ""
    try:
        kind = _kind(path)
        if on_bytes is not None:
            facts["sha256"] = sha256 = sha256_of(path, on_bytes)
            verdict = compare(name, size, sha256) or "not known"
            wrong = verdict.startswith("differs")
            verdict = f", sha256 {sha256[:12]} {verdict.replace('differs', 'DIFFERS')}"
        elif known is not None:
            same = known.bytes == size
            verdict = ", published size" if same else f", published with {known.bytes:,}"
    except (CheckpointError, OSError) as error:
        wrong, kind = True, str(error).replace(str(path), "it")
    return Row(label, f"{size:,} bytes, {kind}{verdict}", facts, wrong)


def _kind(path: Path) -> str:
    """A file's format, and the dtypes of its tensors. Raises `CheckpointError` or `OSError`."""
    if path.suffix == ".json":
        check_file(path)
        try:
            read_object(path.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise CheckpointError(f"no readable JSON: {reason(error)}") from error
        return "JSON"
    weights, kind = open_weights(path), "safetensors"
    if isinstance(weights, TorchFile):
        kind = "torch zip" if weights.mapped else "torch legacy"
    dtypes = sorted({entry.dtype for entry in weights.entries.values()})
    return f"{kind} of {len(weights.entries)} {' and '.join(dtypes)}"
