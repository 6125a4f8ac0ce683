"""Settings of a training run: frozen, checked, and read from a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import FlashHeadError
from ..files import read_object


class Settings(BaseModel):
    """What the settings of every stage derive from; a wrong name or type is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


SettingsT = TypeVar("SettingsT", bound=Settings)


def read_settings(
    cls: type[SettingsT], path: str | Path, changes: Mapping[str, str] | None = None
) -> SettingsT:
    """Settings from a JSON object; what the file leaves out keeps its default.

    Args:
        cls: which settings.
        path: of the file.
        changes: values by dotted name that replace the file's, such as
            {"stage.update.learning_rate": "1e-3"}; each is JSON, or else a text.

    Raises:
        FlashHeadError: the file cannot be read, or a name or value does not fit.
    """
    try:
        values = read_object(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FlashHeadError(f"{path} is not readable JSON: {error}.") from error
    for name, text in (changes or {}).items():
        *groups, key = name.split(".")
        group = values
        for step in groups:
            if not isinstance(group.get(step), dict):
                group[step] = {}
            group = group[step]
        try:
            group[key] = json.loads(text)
        except ValueError:
            group[key] = text
    try:
        # As JSON, where a list may stand for a tuple; Python values would have to be tuples.
        return cls.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise FlashHeadError(f"{path}: {_first_error(cls, error)}.") from error


def _first_error(cls: type[Settings], error: ValidationError) -> str:
    found = error.errors(include_url=False)[0]
    *groups, key = found["loc"]
    name = ".".join(map(str, found["loc"]))
    if found["type"] == "missing":
        return f"the setting '{name}' is missing"
    if found["type"] == "extra_forbidden":
        owner: Any = cls
        for group in groups:
            owner = owner.model_fields[group].annotation
        known = ", ".join(sorted(owner.model_fields))
        return f"unknown setting '{name}'; expected one of {known}"
    message = found["msg"]
    return f"{name} is {found['input']!r}: {message[0].lower()}{message[1:]}"
