"""Files that appear when they are complete."""

import errno
import os
import secrets
from pathlib import Path

import pytest

from flashhead import FlashHeadError, FlashHeadWarning, OutputError
from flashhead.files import check_output, hidden_file, put, replacing, stamp


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


# ---- names


@pytest.mark.parametrize(
    "name", ["a" * 251 + ".mp4", "说" * 83 + ".mp4", "\udcff\udcfe.mp4", ".mp4"]
)
def test_any_name_that_a_file_may_have(write, tmp_path, name):
    """The hidden file's name is longer, and must not be too long where this one is not."""
    check_output(tmp_path / name)
    write(tmp_path / name, "text")
    assert (tmp_path / name).read_text() == "text" and len(list(tmp_path.iterdir())) == 1


def test_the_hidden_name_is_one_that_the_file_system_can_spell(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "ascii")
    with hidden_file(tmp_path / "说话.mp4", ".part") as file:
        assert file.name.isascii()


def test_another_runs_file_stays(write, tmp_path):
    path = tmp_path / "it.txt"
    for old in (None, "old"):
        path.unlink(missing_ok=True) if old is None else path.write_text(old)
        with (
            pytest.raises(OutputError, match=r"it\.txt was written by another"),
            replacing(path) as it,
        ):
            it.write(b"mine")
            write(path, "theirs, longer")
        assert path.read_text() == "theirs, longer" and list(tmp_path.iterdir()) == [path]


def test_where_there_must_be_none_nothing_is_replaced(tmp_path):
    (tmp_path / "it.txt").write_text("old")
    with pytest.raises(OutputError), replacing(tmp_path / "it.txt", new=True) as file:
        file.write(b"new")
    assert (tmp_path / "it.txt").read_text() == "old"


def test_numbers_go_up_to_a_free_name_and_links_are_not_followed(tmp_path):
    path, part, victim = tmp_path / "it.txt", tmp_path / "part", tmp_path / "victim"
    (tmp_path / "it_2.txt").symlink_to(victim)
    path.write_text("theirs")
    part.write_text("mine")
    with pytest.warns(FlashHeadWarning, match=r"it\.txt was written .*it_3\.txt"):
        assert put(part, path, seen=None, numbered=True) == tmp_path / "it_3.txt"
    assert (tmp_path / "it_3.txt").read_text() == "mine" and path.read_text() == "theirs"
    assert not victim.exists() and not part.exists()


def test_a_file_that_went_meanwhile_is_no_obstacle(tmp_path):
    path, part = tmp_path / "it.txt", tmp_path / "part"
    path.write_text("old")
    seen = stamp(path)
    path.unlink()
    part.write_text("mine")
    assert put(part, path, seen) == path and path.read_text() == "mine"


# ---- refused before any work


def unwritable(kind, folder):
    """A path that no file can be written at."""
    path = folder / "it.txt"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "too long":
        return folder / ("n" * 256)
    elif kind == "no folder":
        return folder / "nowhere" / "it.txt"
    elif kind == "in a file":
        path.touch()
        return path / "it.txt"
    elif kind == "null byte":
        return folder / "it\0.txt"
    return path


KINDS = ["folder", "too long", "no folder", "in a file", "null byte"]
KINDS += ["pipe"] if hasattr(os, "mkfifo") else []


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_written_is_named(kind, tmp_path):
    path = unwritable(kind, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FlashHeadError) as caught:
        check_output(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.ESTALE])
def test_a_folder_that_takes_no_file_is_named(code, tmp_path, monkeypatch):
    """As a read-only mount, missing permission, a full disk or a lost network share do it."""

    def refuse(path, *_):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OutputError, match=r"it\.txt cannot be written: " + os.strerror(code)):
        check_output(tmp_path / "it.txt")


def test_a_file_that_must_not_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "it.txt").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anything
    with pytest.raises(OutputError, match="write-protected"):
        check_output(tmp_path / "it.txt")


def test_checking_leaves_nothing_and_touches_nothing(tmp_path):
    path = tmp_path / "it.txt"
    check_output(path)
    assert not list(tmp_path.iterdir())
    path.write_text("old")
    seen = stamp(path)
    check_output(path)
    assert list(tmp_path.iterdir()) == [path] and stamp(path) == seen


def test_an_error_of_the_disk_names_the_file(write, tmp_path):
    with pytest.raises(FlashHeadError, match=r"it\.txt could not be written: No space left"):
        write(tmp_path / "it.txt", "text", OSError(errno.ENOSPC, "No space left on device"))
    foreign = OSError(errno.EIO, "Input/output error", "source")
    with pytest.raises(OSError, match="source") as caught:
        write(tmp_path / "it.txt", "text", foreign)
    assert caught.value is foreign and not list(tmp_path.iterdir())
