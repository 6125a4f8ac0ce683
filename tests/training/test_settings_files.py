"""A settings file says what is wrong with it by name."""

import json
from dataclasses import dataclass, field

import pytest

from flashhead.errors import FlashHeadError
from flashhead.training.commands.settings_files import read_settings


@dataclass(frozen=True)
class Inner:
    rate: float = 1.0
    pair: tuple[float, float] = (0.0, 1.0)
    many: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outer:
    steps: int
    name: str | None = None
    exact: bool = False
    inner: Inner = field(default_factory=Inner)


@pytest.fixture
def file(tmp_path):
    def write(**values):
        path = tmp_path / "settings.json"
        path.write_text(json.dumps(values))
        return path

    return write


def test_a_file_is_read(file):
    path = file(steps=3, inner={"rate": 2, "pair": [1, 2], "many": [1, 2, 3]})
    expected = Outer(3, inner=Inner(2.0, (1.0, 2.0), (1, 2, 3)))
    assert read_settings(Outer, path) == expected
    assert type(read_settings(Outer, path).inner.rate) is float


def test_changes_replace_by_dotted_name(file):
    changes = {"inner.rate": "1e-3", "name": "pocket", "exact": "true"}
    read = read_settings(Outer, file(steps=3), changes)
    assert read == Outer(3, "pocket", True, Inner(1e-3))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": "3"}, "steps is '3'; expected int"),
        ({"steps": 3, "exact": 1}, "exact is 1; expected bool"),
        ({"steps": True}, "steps is True; expected int"),
        ({"steps": 3, "inner": {"rat": 1}}, "inner: unknown setting 'rat'; expected one of many"),
        ({"steps": 3, "inner": 1}, "inner holds 1; expected a JSON object"),
        ({"steps": 3, "inner": {"pair": [1]}}, "expected 2 values"),
        ({}, "missing 1 required positional argument: 'steps'"),
    ],
)
def test_what_does_not_fit_is_named(file, values, message):
    with pytest.raises(FlashHeadError, match=message):
        read_settings(Outer, file(**values))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FlashHeadError, match="nowhere.json is not readable JSON"):
        read_settings(Outer, tmp_path / "nowhere.json")
