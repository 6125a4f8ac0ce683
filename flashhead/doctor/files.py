"""What lies in a checkpoint's place: files, formats, dtypes, and whether they are the published."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.layout import find_adapter, find_snapshot, find_variants
from ..checkpoint.loading import Checkpoint, open_checkpoint
from ..checkpoint.published import PUBLISHED, compare, sha256_of
from ..checkpoint.weights import TORCH_SUFFIXES, TorchFile, check_file, open_weights
from ..errors import CheckpointError, reason
from ..files import read_object
from ..pocket import place_of
from .report import Row

_SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
_CONFIGS = {Path(name).name for name in PUBLISHED if name.endswith(".json")}
_MOST = 14

OnBytes = Callable[[int, int], None]
"""Called with the bytes read so far and all that there are."""


@dataclass(frozen=True)
class Place:
    """Where a checkpoint lies. path: a folder or file. opens: what opens each variant in it."""

    path: Path
    opens: Mapping[str, Callable[[], Checkpoint]]

    @classmethod
    def of(cls, path: str | Path, **parts: Any) -> Place:
        """Of what `open_checkpoint` takes. parts: its vae, audio_encoder and so on."""
        found = find_snapshot(place_of(path)).absolute()

        def opener(variant: str | None) -> Callable[[], Checkpoint]:
            return lambda: open_checkpoint(found, variant, **parts)

        variants: list[str | None] = [*find_variants(found)] or [None]
        return cls(found, {variant or "checkpoint": opener(variant) for variant in variants})


def checkpoint_rows(place: Place, on_bytes: OnBytes | None = None) -> Iterator[Row]:
    """Whether each variant opens, and each file; see `_file_row`.

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
    files = used | dict.fromkeys(_files_in(place.path))
    shown = [path for path in list(files)[:_MOST] if path.exists()]
    total, read = sum(path.stat().st_size for path in shown), 0

    def count(size: int) -> None:
        nonlocal read
        read += size
        if on_bytes is not None:
            on_bytes(read, total)

    for path in shown:
        inside = path != place.path and path.is_relative_to(place.path)
        label = (path.relative_to(place.path) if inside else Path(path.name)).as_posix()
        yield _file_row(label, path, None if on_bytes is None else count)
    if len(files) > len(shown):
        yield Row("more", f"{len(files) - len(shown)} files that are not looked into")


def _files_in(path: Path) -> list[Path]:
    """Weights and configs in a folder and in those within it, or the file itself."""
    if not path.is_dir():
        return [path]
    folders = filter(None, (path, find_adapter(path)))
    found = [p for f in folders for p in (*f.glob("[!.]*"), *f.glob("[!.]*/[!.]*"))]
    wanted = (p for p in found if p.suffix in _SUFFIXES or p.name in _CONFIGS)
    return sorted(p for p in wanted if not p.is_dir())


def _file_row(label: str, path: Path, on_bytes: Callable[[int], None] | None) -> Row:
    """A file's size, format and dtypes, and whether it is the published one."""
    size, name = path.stat().st_size, "/".join(path.parts[-2:])
    facts: dict[str, Any] = {"bytes": size}
    known = PUBLISHED.get(name)
    same, wrong, verdict = known is not None and known.bytes == size, False, ""
    try:
        kind = _kind(path)
        if on_bytes is not None:
            facts["sha256"] = sha256 = sha256_of(path, on_bytes)
            verdict = compare(name, size, sha256) or "not known"
            wrong = verdict.startswith("differs")
            verdict = f", sha256 {sha256[:12]} {verdict.replace('differs', 'DIFFERS')}"
        elif known is not None:
            verdict = ", published size" if same else f", published with {known.bytes:,}"
    except (CheckpointError, OSError) as error:
        wrong, kind = True, str(error).replace(str(path), "it")
    told = f"{size / 1e9:.2f} GB" if same and size > 10**7 else f"{size:,} bytes"
    return Row(label, f"{told}, {kind}{verdict}", facts, wrong)


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
