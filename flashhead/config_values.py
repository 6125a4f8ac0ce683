"""Reading single values out of a checkpoint's config, each with an error that names the key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import CheckpointError

_LARGEST = 1 << 20
_MOST_LAYERS = 1000


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value <= _LARGEST


@dataclass(frozen=True)
class Values:
    """A config and where it is from. Every method raises `CheckpointError`."""

    config: Mapping[str, Any]
    where: str

    def get(self, key: str) -> Any:
        if key not in self.config:
            raise CheckpointError(
                f"{self.where}: config has no '{key}'; is this the file of another model?"
            )
        return self.config[key]

    def refuse(self, key: str, expected: str) -> CheckpointError:
        return CheckpointError(
            f"{self.where}: config's {key} is {self.config[key]!r}; expected {expected}."
        )

    def size(self, key: str) -> int:
        value = self.get(key)
        if not _is_size(value):
            raise self.refuse(key, "a size above 0")
        return value

    def layers(self, key: str) -> int:
        if self.size(key) > _MOST_LAYERS:
            raise self.refuse(key, f"1 to {_MOST_LAYERS}")
        return self.config[key]

    def sizes(self, key: str, count: int | None = None) -> tuple[int, ...]:
        """A list of sizes; `count` of them, or any number above 0."""
        value = self._list(key, count)
        if not all(map(_is_size, value)):
            raise self.refuse(key, "sizes above 0")
        return value

    def counts(self, key: str, count: int) -> tuple[int, ...]:
        """A list of `count` numbers of layers, 0 among them."""
        value = self._list(key, count)
        if not all(type(n) is int and 0 <= n <= _MOST_LAYERS for n in value):
            raise self.refuse(key, f"{count} numbers of layers")
        return value

    def flags(self, key: str, count: int) -> tuple[bool, ...]:
        value = self._list(key, count)
        if not all(isinstance(flag, bool) for flag in value):
            raise self.refuse(key, f"{count} times true or false")
        return value

    def flag(self, key: str) -> bool:
        value = self.get(key)
        if not isinstance(value, bool):
            raise self.refuse(key, "true or false")
        return value

    def epsilon(self, key: str) -> float:
        """What keeps a norm from dividing by zero."""
        value = self.get(key)
        if type(value) not in (int, float) or not math.isfinite(value) or not 0 < value < 1:
            raise self.refuse(key, "a number between 0 and 1")
        return float(value)

    def strides(self, key: str) -> tuple[int, int, int]:
        value = self.get(key)
        if not isinstance(value, list | tuple) or len(value) != 3 or not all(map(_is_size, value)):
            raise self.refuse(key, "[t, h, w] above 0")
        return tuple(value)

    def divisor(self, key: str, of: str) -> int:
        """A size that divides another without remainder."""
        if self.size(of) % self.size(key):
            raise self.refuse(key, f"a divisor of {of}, {self.config[of]}")
        return self.config[key]

    def _list(self, key: str, count: int | None) -> tuple[Any, ...]:
        value = self.get(key)
        if not isinstance(value, list | tuple) or not value:
            raise self.refuse(key, "a list")
        if len(value) != (count or len(value)) or len(value) > _MOST_LAYERS:
            raise self.refuse(key, f"{count or 'fewer'} values")
        return tuple(value)
