"""The house: how many rooms, how large, which way imports go, and that there is one chunk loop."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GROUND = {"geometry", "errors", "variants", "dtypes", "files"}
# Room of the library → the rooms that it may import besides the ground and itself.
BELOW = {
    "models": set(),
    "image": set(),
    "media": set(),
    "checkpoint": {"models", "pocket"},
    "stream": {"models", "image", "media"},
    "pocket": set(),
    "examples": set(),
    "testing": {"models", "checkpoint"},
    "cli": {"models", "image", "media", "checkpoint", "stream", "pocket"},
    "demo": {"cli", "pocket", "examples"},
    "training": {"models", "image", "media", "checkpoint", "stream", "pocket", "examples"},
}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


VAE_NAMES = {"vae", "_vae", "network", "first_stage_model"}
MODULES = {module_of(path) for path in sources("flashhead", "nodes")}


def imports_of(path: Path) -> Iterator[str]:
    """Modules that a file imports anywhere in it, ours by their full names."""
    package = module_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # In ComfyUI the pack's root is a package: nodes reach the library by dots.
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in MODULES else base


def test_a_newcomer_can_count_the_rooms():
    entries = [path for path in (ROOT / "flashhead").iterdir() if path.name != "__pycache__"]
    assert len(entries) < 25
    assert len(sources("nodes")) < 25


def test_no_file_is_long():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in sources("flashhead", "nodes", "benchmarks", "tests")
    }
    assert not {name: lines for name, lines in lengths.items() if lines > 400}


def test_every_line_earns_its_place():
    """The library and the nodes, without training."""
    counted = [path for path in sources("flashhead", "nodes") if "training" not in path.parts]
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in counted) <= 9_500


def test_no_import_circle():
    graph = {
        module_of(path): sorted(set(imports_of(path)) & MODULES)
        for path in sources("flashhead", "nodes")
    }
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' -> '.join([*way[way.index(module) :], module])}"
        if module not in done:
            for other in graph[module]:
                walk(other, (*way, module))
            done.add(module)

    for module in graph:
        walk(module, ())


@pytest.mark.parametrize("room", BELOW)
def test_imports_go_down(room):
    allowed = GROUND | BELOW[room] | {room}
    place = ROOT / "flashhead" / room
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
        for module in imports_of(path):
            names = module.split(".")
            if names[0] == "flashhead" and len(names) > 1:
                assert names[1] in allowed, f"{path.relative_to(ROOT)} imports {module}"


def test_the_library_knows_no_host_and_the_ground_nothing_above():
    for path in sources("flashhead"):
        for module in imports_of(path):
            assert module.split(".")[0] not in {"comfy", "comfy_api", "folder_paths", "nodes"}, path
    for name in GROUND:
        for module in imports_of(ROOT / "flashhead" / f"{name}.py"):
            assert not module.startswith("flashhead") or module.split(".")[1] in GROUND, module


def calls_in(function: ast.AST) -> set[str]:
    """Stages of a chunk that a function calls: by their functions, or as a method of a VAE."""
    found = set()
    for node in ast.walk(function):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        name = called.rpartition(".")[2]
        if name in ("sample_latents", "match_color", "decode_and_encode"):
            found.add(name)
        owner = called.rpartition(".")[0].rpartition(".")[2]
        if name in ("decode", "encode") and owner in (
            "vae",
            "_vae",
            "network",
            "first_stage_model",
        ):
            found.add(name)
    return found


def test_one_place_makes_chunks():
    """Sampling, then decoding, colours and encoding again: which functions call what."""
    calls = {}
    for path in sources("flashhead", "nodes", "benchmarks"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (found := calls_in(node)):
                calls[f"{path.relative_to(ROOT)}:{node.name}"] = found
    loop = "flashhead/stream/loop.py"
    decoding = {where for where, found in calls.items() if {"decode", "match_color"} <= found}
    assert decoding == {
        f"{loop}:decode_and_encode",
        "benchmarks/flashbench/compare.py:compare",  # each stage alone, against the reference's
    }
    assert calls[f"{loop}:decode_and_encode"] == {"decode", "match_color", "encode"}
    sampling = {where for where, found in calls.items() if "sample_latents" in found}
    assert sampling == {
        f"{loop}:sample",
        "flashhead/training/distillation/rollout.py:roll_out",  # on encoded clips, for a loss
    }
    assert {where for where, found in calls.items() if "decode_and_encode" in found} == {
        f"{loop}:decode",
        "flashhead/training/distillation/rollout.py:pixel_motion",
    }
    tree = ast.parse((ROOT / loop).read_text(encoding="utf-8"))
    (step,) = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "step"
               and n.args.args[1].arg == "audio"]  # fmt: skip
    order = [name for name in ("sampler.sample", "decoder.decode") if name in ast.unparse(step)]
    assert order == ["sampler.sample", "decoder.decode"]
