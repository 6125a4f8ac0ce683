"""The page that `doctor` makes: on this machine, on cards that are not here, of broken files."""

import json
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

import flashhead
from flashhead.checkpoint.published import PUBLISHED, PublishedFile, sha256_of
from flashhead.cli.main import main
from flashhead.doctor import machine
from flashhead.doctor.examine import examine, verdict
from flashhead.doctor.files import checkpoint_rows, place_at
from flashhead.doctor.host import free_memory, library_host
from flashhead.doctor.report import COLUMNS, Row, page
from flashhead.doctor.self_test import STORED, self_test

from .test_devices import fake

CPU = torch.device("cpu")
HOST = library_host(CPU)
GENERATOR = "Model_Lite/diffusion_pytorch_model.safetensors"


def page_of(sections) -> str:
    return "\n".join(page(*section) for section in sections)


def rows_of(path, verify=False) -> dict[str, Row]:
    rows = checkpoint_rows(place_at(path), (lambda read, total: None) if verify else None)
    return {row.label: row for row in rows}


def test_the_page_of_this_machine(checkpoint, capsys):
    assert main(["doctor", "--checkpoint", str(checkpoint), "--device", "cpu"]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert len(lines) <= 60 and max(map(len, lines)) <= COLUMNS
    assert told.out.isascii() and not told.err
    for found in (torch.__version__, "float32", "libx264", "opens", "can be loaded", "right: mean"):
        assert found in told.out
    assert lines[-1] == "nothing wrong was found"


def test_facts_for_programs(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("flashhead.doctor.examine.self_test", lambda host: iter(()))
    place = ["doctor", "--checkpoint", str(checkpoint), "--device", "cpu"]
    assert main([*place, "--json", "-"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert main([*place, "--json", str(tmp_path / "facts.json")]) == 0
    assert "can be loaded" in capsys.readouterr().out
    assert json.loads((tmp_path / "facts.json").read_text()).keys() == facts.keys()
    assert main([*place, "--json", str(tmp_path / "none" / "facts.json")]) == 1
    told = capsys.readouterr()
    assert "there is no folder" in told.err and not told.out  # before any work
    files = {row["label"]: row for row in facts["checkpoint"]}
    assert files[GENERATOR]["bytes"] == (checkpoint / GENERATOR).stat().st_size
    lite = next(row for row in facts["memory"] if row["label"] == "Lite")
    assert lite["weights"] > 6e9
    assert facts["wrong"] == 0 and facts["result"] == "nothing wrong was found"


def test_it_says_what_is_wrong_and_exits_with_1(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("flashhead.doctor.examine.self_test", lambda host: iter(()))
    assert main(["doctor", "--checkpoint", str(tmp_path / "none"), "--device", "cpu"]) == 1
    told = capsys.readouterr()
    assert "WRONG:" in told.out
    assert told.out.splitlines()[-1] == "1 to mend, marked WRONG"
    assert told.err == "error: 1 to mend, marked WRONG\n"
    assert main(["doctor", "--device", "gpu"]) == 1
    assert "'gpu' is no device" in capsys.readouterr().err


@settings(max_examples=40)
@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=150)), max_size=3))
def test_any_text_can_be_printed_anywhere(rows):
    lines = page("title", [Row(*row) for row in rows]).split("\n")
    assert all(" " <= character <= "~" for line in lines for character in line)
    assert max(map(len, lines)) <= COLUMNS and len(lines) <= 1 + 4 * len(rows)


def test_no_name_of_a_user_is_told(tmp_path, monkeypatch):
    home = tmp_path / "alice"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    texts = [f"{home}/models/x.pth", str(home), f"{home}!", "/media/alice/disk/x", "in /home/bob"]
    texts += ["'C:\\\\Users\\\\bob\\\\x.pth'", r"D:\users\Bob\x", "/Users/bob/x", f"{home}/alice/x"]
    rows = [Row(text, text) for text in texts]
    printed = page("title", rows)
    for told in (printed, json.dumps([row.entry() for row in rows])):
        assert "alice" not in told and "bob" not in told.lower()
    assert "~/models/x.pth" in printed and r"\x" in printed
    # Another folder that begins alike is not the home.
    assert "~" not in Row("", f"{home}-models/x").entry()["text"]


# How torch describes a device (see `fake`), its memory, and what the page has to say.
CARDS = {
    "RTX 2080": (
        ("cuda", "NVIDIA GeForce RTX 2080", (7, 5)),
        8,
        ("RTX 2080", "capability 7.5", "generator float16: compute", "Pro's VAE float16", "LTX's"),
    ),
    "RTX 4090": (
        ("cuda", "NVIDIA GeForce RTX 4090", (8, 9)),
        24,
        ("RTX 4090", "generator bfloat16", "Lite's VAE bfloat16", ": fits", "22.8 GB of 24.0 GB"),
    ),
    "GTX 1080": (
        ("cuda", "NVIDIA GeForce GTX 1080", (6, 1)),
        8,
        ("GTX 1080", "generator float32: compute capability 6.1", "does not fit at once"),
    ),
    "RX 6800": (("rocm", "AMD Radeon RX 6800", (10, 3), "gfx1030"), 16, ("ROCm", "gfx1030")),
    "Arc": (("xpu", lambda: True), 16, ("Intel Arc A770", "bfloat16", "driver 1.6")),
    "Mac": (("mps", (15, 1)), 16, ("mps", "bfloat16", "macOS")),
    "DirectML": (("privateuseone",), 0, ("DirectML has no bfloat16", "device cannot be told")),
}


@pytest.fixture(params=CARDS)
def card(request, monkeypatch):
    """A host on a device that torch is made to describe, and what its page must hold."""
    described, memory, expected = CARDS[request.param]
    device = fake(monkeypatch, described)
    usable = round(memory * 0.95 * 1e9), memory * 10**9
    for kind in (torch.cuda, torch.xpu):
        monkeypatch.setattr(kind, "mem_get_info", lambda device: usable)
    name = described[1] if device.type == "cuda" else "Intel Arc A770"
    for kind in (torch.cuda, torch.xpu):
        monkeypatch.setattr(kind, "get_device_name", lambda device: name)
    arc = SimpleNamespace(driver_version="1.6")
    monkeypatch.setattr(torch.xpu, "get_device_properties", lambda device: arc)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: usable[1])
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: usable[1] - usable[0])
    return library_host(device), expected


def test_pages_of_devices_that_are_not_here(card, monkeypatch):
    host, expected = card
    monkeypatch.setattr("flashhead.doctor.examine.self_test", lambda host: iter(()))
    sections = list(examine(host, place_at("pocket")))
    told = page_of(sections)
    for text in expected:
        assert text in " ".join(told.split()), told
    assert len(told.splitlines()) <= 60
    # What torch can say where the device is alone: cuDNN's version, and which kernel it chooses.
    failed = {title for title, rows in sections for row in rows if row.label == "failed"}
    assert failed <= {"device", "computing"} and not verdict(sections)[0]


def broken_everywhere(monkeypatch):
    """Nothing that is asked of the machine is answered."""

    def fail(*_, **__):
        raise RuntimeError("out of order\nand more")

    for name in ("platform.platform", "shutil.disk_usage", "av.CodecContext.create"):
        monkeypatch.setattr(name, fail)
    monkeypatch.setattr("psutil.virtual_memory", fail)
    monkeypatch.setattr("torch.get_num_threads", fail)
    monkeypatch.setattr("importlib.import_module", fail)
    return replace(HOST, precision=fail, attention=fail, free=fail)


def test_a_section_that_fails_says_so_and_the_others_come(monkeypatch):
    monkeypatch.setattr("flashhead.doctor.examine.self_test", lambda host: iter(()))
    host = broken_everywhere(monkeypatch)
    sections = list(examine(host, place_at("pocket")))
    failed = [title for title, rows in sections if "RuntimeError: out" in page(title, rows)]
    assert failed == ["software", "device", "computing", "memory", "video"]
    assert not verdict(sections)[0]  # what can be used is another matter


@pytest.mark.parametrize(
    ("kind", "name"), [("xpu", "mem_get_info"), ("mps", "recommended_max_memory")]
)
def test_memory_that_torch_cannot_tell_is_unknown(kind, name, monkeypatch):
    def fail(*_):
        raise RuntimeError("this device does not support querying the available free memory")

    monkeypatch.setattr(getattr(torch, kind), name, fail)
    assert free_memory(torch.device(kind)) is None


def test_without_psutil_the_rest_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    told = page("memory", machine.memory(HOST))
    assert "RAM            cannot be told" in told and "Pro" in told


def test_cancel_goes_through():
    class Cancel(Exception):
        pass

    def cancel(*_):
        raise Cancel

    host = replace(HOST, free=cancel, load=cancel, passing=(Cancel,))
    with pytest.raises(Cancel):
        list(examine(host, place_at("pocket")))
    with pytest.raises(Cancel):
        list(self_test(host))


# Files


@pytest.fixture
def folder(checkpoint, tmp_path):
    """A copy of Lite's folder, to break."""
    for name in ("Model_Lite", "VAE_LTX", "wav2vec2-base-960h"):
        shutil.copytree(checkpoint / name, tmp_path / name)
    return tmp_path


def test_files_that_are_whole(folder, checkpoint):
    shutil.copytree(checkpoint / "VAE_Wan", folder / "VAE_Wan")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.safetensors").touch()
    rows = rows_of(folder)
    assert rows["lite"].text == "can be loaded" and not any(row.wrong for row in rows.values())
    assert "safetensors of 114 F32, published with 6,107,542,048" in rows[GENERATOR].text
    assert "torch zip of" in rows["VAE_Wan/Wan2.1_VAE.pth"].text
    assert ".cache/x.safetensors" not in rows


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def legacy(path):
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)


BREAKS = {
    "truncated": (GENERATOR, cut, "truncated"),
    "a pointer": (GENERATOR, lambda p: p.write_text("version https://git-lfs.x\n"), "Git LFS"),
    "a web page": (GENERATOR, lambda p: p.write_text("<!DOCTYPE html><p>Sorry"), "web page"),
    "empty": (GENERATOR, lambda p: p.write_bytes(b""), "it is truncated or no safetensors"),
    "no JSON": ("VAE_LTX/config.json", lambda p: p.write_text("{'a'"), "no readable JSON"),
    "cut torch": ("VAE_LTX/old.pth", lambda p: (legacy(p), p.write_bytes(p.read_bytes()[:99])), ""),
}


@pytest.mark.parametrize("name", BREAKS)
def test_files_that_are_broken(name, folder):
    file, damage, said = BREAKS[name]
    damage(folder / file)
    rows = rows_of(folder)
    assert rows[file].wrong and said in rows[file].text
    assert str(folder) not in rows[file].text
    assert rows["lite"].wrong == (file != "VAE_LTX/old.pth")
    others = rows.keys() - {file, "lite"}
    assert len(others) >= 5 and not any(rows[other].wrong for other in others)


def test_an_old_torch_file_is_known(folder):
    legacy(folder / "VAE_LTX" / "old.pth")
    assert "torch legacy of 1 F32" in rows_of(folder)["VAE_LTX/old.pth"].text


def test_checksums(folder, monkeypatch, capsys):
    vae, encoder = "VAE_LTX/config.json", "wav2vec2-base-960h/model.safetensors"
    (folder / "Model_Lite" / "other.safetensors").write_bytes((folder / GENERATOR).read_bytes())
    for name, known in (
        (GENERATOR, sha256_of(folder / GENERATOR)),
        (encoder, "0" * 64),
        (vae, None),
    ):
        size = (folder / name).stat().st_size
        monkeypatch.setitem(PUBLISHED, name, PublishedFile(size, known))
    rows = rows_of(folder, verify=True)
    assert rows[GENERATOR].text.endswith("as published") and not rows[GENERATOR].wrong
    # By its content, wherever it lies.
    assert rows["Model_Lite/other.safetensors"].text.endswith("as published")
    assert "DIFFERS from the published file" in rows[encoder].text and rows[encoder].wrong
    assert rows[vae].text.endswith("of the published size") and not rows[vae].wrong
    monkeypatch.setattr("flashhead.doctor.examine.self_test", lambda host: iter(()))
    assert main(["doctor", "--checkpoint", str(folder), "--verify", "--device", "cpu"]) == 1
    told = capsys.readouterr()
    assert f"{encoder}  WRONG" in told.out and "to mend" in told.out.splitlines()[-1]
    assert "checksums: 0.01 of 0.01 GB" in told.err


# The self-test


def test_stored_frames_are_a_small_file():
    assert STORED.stat().st_size <= 60_000


def scaled(key, factor):
    def load(dtype):
        bundle = flashhead.load_bundle("pocket", dtype=dtype)
        weight = bundle.generator.get_parameter(key)
        weight.mul_(factor)
        return bundle

    return load


FAULTS = {
    "a fifth too large": ("blocks.3.ffn.0.weight", 1.2),
    "not finite": ("blocks.0.ffn.2.weight", float("nan")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_weight_is_caught(name):
    (row, _) = self_test(replace(HOST, load=scaled(*FAULTS[name])))
    assert row.wrong and ("off: mean" in row.text or "NonFiniteError" in row.text)


def test_a_kernel_that_is_off_is_caught(monkeypatch):
    attend = functional.scaled_dot_product_attention
    off = lambda q, k, v: attend(q, k, v, scale=1.0)  # noqa: E731
    monkeypatch.setattr(functional, "scaled_dot_product_attention", off)
    (row, _) = self_test(HOST)
    assert row.wrong and "off: mean" in row.text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_within_what_is_stated(dtype, monkeypatch):
    monkeypatch.setattr("flashhead.doctor.self_test.generator_choices", lambda device: [dtype])
    (row, _) = self_test(HOST)
    assert not row.wrong and 0.02 < row.facts["mean"] < row.facts["limits"][0] / 2
    assert row.facts["largest"] <= row.facts["limits"][1] / 2
