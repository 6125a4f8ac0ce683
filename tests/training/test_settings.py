"""A settings file says what is wrong with it by name."""

import json

import pytest

from flashhead.errors import FlashHeadError
from flashhead.training.settings import Settings, read_settings


class Inner(Settings):
    rate: float = 1.0
    pair: tuple[float, float] = (0.0, 1.0)
    many: tuple[int, ...] = ()


class Outer(Settings):
    steps: int
    name: str | None = None
    exact: bool = False
    inner: Inner = Inner()


@pytest.fixture
def file(tmp_path):
    def write(**values):
        path = tmp_path / "settings.json"
        path.write_text(json.dumps(values))
        return path

    return write


def test_a_file_is_read(file):
    path = file(steps=3, inner={"rate": 2, "pair": [1, 2], "many": [1, 2, 3]})
    expected = Outer(steps=3, inner=Inner(rate=2.0, pair=(1.0, 2.0), many=(1, 2, 3)))
    assert read_settings(Outer, path) == expected
    assert type(read_settings(Outer, path).inner.rate) is float


def test_changes_replace_by_dotted_name(file):
    changes = {"inner.rate": "1e-3", "name": "pocket", "exact": "true"}
    read = read_settings(Outer, file(steps=3), changes)
    assert read == Outer(steps=3, name="pocket", exact=True, inner=Inner(rate=1e-3))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": "3"}, "json: steps is '3': input should be a valid integer."),
        ({"steps": 3, "exact": 1}, "json: exact is 1: input should be a valid boolean."),
        ({"steps": True}, "json: steps is True: input should be a valid integer."),
        (
            {"steps": 3, "inner": {"rat": 1}},
            "json: unknown setting 'inner.rat'; expected one of many, pair, rate.",
        ),
        ({"steps": 3, "inner": 1}, "json: inner is 1: input should be an object."),
        ({"steps": 3, "inner": {"pair": [1]}}, "json: the setting 'inner.pair.1' is missing."),
        ({}, "json: the setting 'steps' is missing."),
    ],
)
def test_what_does_not_fit_is_named(file, values, message):
    with pytest.raises(FlashHeadError) as raised:
        read_settings(Outer, file(**values))
    assert str(raised.value).endswith(message)


def test_a_change_of_what_is_no_group_is_named(file):
    with pytest.raises(FlashHeadError, match="steps is {'first': 1}"):
        read_settings(Outer, file(steps=3), {"steps.first": "1"})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FlashHeadError, match="nowhere.json is not readable JSON"):
        read_settings(Outer, tmp_path / "nowhere.json")
