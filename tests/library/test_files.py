"""Files that appear when they are complete."""

import secrets
from pathlib import Path

import pytest

from flashhead.files import replacing


@pytest.fixture(params=["file", "path"])
def write(request):
    """(path, text, error to raise before the end): write to the file or to its path."""

    def write(path, text, error=None):
        with replacing(path) as file:
            if request.param == "file":
                file.write(text.encode())
            else:
                Path(file.name).write_text(text)
            if error is not None:
                raise error

    return write


def test_it_replaces_what_was_there(write, tmp_path):
    path = tmp_path / "it.txt"
    for text in ("one", "another"):
        write(path, text)
        assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there(error, write, tmp_path):
    path = tmp_path / "it.txt"
    path.write_text("old")
    with pytest.raises(type(error)):
        write(path, "new", error)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_until_then_it_is_hidden(tmp_path):
    with replacing(tmp_path / "it.txt") as file:
        part = Path(file.name)
        assert list(tmp_path.iterdir()) == [part] and part.name.startswith(".it.txt.")


def test_a_planted_link_is_not_followed(write, tmp_path, monkeypatch):
    """Nobody can guess the name; who does gets an error, and keeps the link."""
    monkeypatch.setattr(secrets, "token_hex", lambda _: "guessed")
    victim, link = tmp_path / "victim", tmp_path / ".it.txt.guessed.part"
    victim.write_text("mine")
    link.symlink_to(victim)
    with pytest.raises(FileExistsError):
        write(tmp_path / "it.txt", "new")
    assert victim.read_text() == "mine" and link.is_symlink()


def test_a_folder_that_is_missing_is_an_error(write, tmp_path):
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "nowhere" / "it.txt", "new")
