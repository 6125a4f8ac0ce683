"""Settings of a stage from a JSON file, checked against its dataclasses."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ...errors import FlashHeadError

Settings = TypeVar("Settings")


def read_settings(
    cls: type[Settings],
    path: str | Path,
    changes: Mapping[str, str] | None = None,
) -> Settings:
    """A dataclass from a JSON object; what the file leaves out keeps its default.

    Args:
        cls: a dataclass, whose fields may be dataclasses.
        path: of the file.
        changes: values by dotted name that replace the file's, such as
            {"flow.update.learning_rate": "1e-3"}; each is JSON, or else a text.

    Raises:
        FlashHeadError: the file cannot be read, or a name or value does not fit.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FlashHeadError(f"{path} is not readable JSON: {error}.") from error
    for name, text in (changes or {}).items():
        *owners, leaf = name.split(".")
        place = values
        for owner in owners:
            place = place.setdefault(owner, {})
        try:
            place[leaf] = json.loads(text)
        except ValueError:
            place[leaf] = text
    return make_settings(cls, values, str(path))


def make_settings(cls: type[Settings], values: Any, where: str) -> Settings:
    """The same from values that are already read; `where` names them in errors."""
    if not isinstance(values, dict):
        raise FlashHeadError(f"{where} holds {values!r}; expected a JSON object.")
    hints = typing.get_type_hints(cls)
    names = {field.name for field in dataclasses.fields(cls)}
    if unknown := sorted(set(values) - names):
        raise FlashHeadError(
            f"{where}: unknown setting '{unknown[0]}'; expected one of {', '.join(sorted(names))}."
        )
    made = {name: _value(hints[name], value, f"{where}: {name}") for name, value in values.items()}
    try:
        return cls(**made)
    except TypeError as error:
        raise FlashHeadError(f"{where}: {error}.") from error


def _value(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return make_settings(kind, value, where)
    origin = typing.get_origin(kind)
    if origin is tuple and isinstance(value, list):
        inner = [a for a in typing.get_args(kind) if a is not Ellipsis]
        if len(typing.get_args(kind)) != 2 or typing.get_args(kind)[1] is not Ellipsis:
            if len(inner) != len(value):
                raise FlashHeadError(f"{where} is {value!r}; expected {len(inner)} values.")
            return tuple(_value(k, v, where) for k, v in zip(inner, value, strict=True))
        return tuple(_value(inner[0], v, where) for v in value)
    if origin in (typing.Union, types.UnionType):
        kinds = typing.get_args(kind)
        if isinstance(value, list):
            listed = next((k for k in kinds if typing.get_origin(k) is tuple), None)
            if listed is not None:
                return _value(listed, value, where)
    else:
        kinds = (kind,)
    for plain in kinds:
        if plain is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(plain, type) and type(value) is plain:
            return value
    raise FlashHeadError(f"{where} is {value!r}; expected {getattr(kind, '__name__', kind)}.")
