"""The order of the source: how much there is, and who may import whom. Read, not imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_ENTRIES = 24
MOST_LINES_IN_A_FILE = 400
# Of the library without its training, and the nodes. Raised only with what is built.
MOST_LINES = 13_350
OLDEST_PYTHON = (3, 10)

# Rooms of flashhead/, and those that each may import from beside itself. The package itself, which
# names what it offers, and its `__main__` may import any.
GROUND = frozenset({"geometry", "errors", "variants", "dtypes", "files"})
EXAMPLES = frozenset({"examples", "pocket"})
STREAM = GROUND | {"models", "media", "image"}
LIBRARY = STREAM | {"stream", "checkpoint"}
ROOMS = {
    **dict.fromkeys(sorted(GROUND), GROUND),
    "models": GROUND,
    "checkpoint": GROUND | {"models", "pocket"},
    "media": GROUND,
    "image": GROUND,
    "examples": frozenset(),
    "pocket": GROUND,
    "stream": STREAM,
    "doctor": LIBRARY | EXAMPLES,
    "cli": LIBRARY | EXAMPLES | {"doctor"},
    "demo": LIBRARY | EXAMPLES | {"cli"},
    "testing": LIBRARY,
    "training": LIBRARY | EXAMPLES,
}
COMFYUI = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "server")

# What a chunk goes through. A method counts on a name that ends so.
STAGES = ("sample_latents", "match_color", "decode_and_encode")
OWNERS = {
    "decode": ("vae", "network", "decoder"),
    "encode": ("vae", "network"),
    "sample": ("sampler",),
}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def in_training(path: Path) -> bool:
    return path.is_relative_to(ROOT / "flashhead" / "training")


def module(path: Path) -> str:
    """ "flashhead.stream.loop" for its file, "flashhead.stream" for its __init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in sources("flashhead", "nodes")}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), path.name)


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Those that run when a module is imported."""
    for statement in body:
        type_checking = isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(
            statement.test
        )
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)) or type_checking:
            continue
        yield statement
        for block in ("body", "orelse", "finalbody"):
            yield from statements(getattr(statement, block, []))
        for handler in getattr(statement, "handlers", []):
            yield from statements(handler.body)


def names_imported(name: str, statement: ast.stmt) -> list[str]:
    """The modules that an import statement in the module `name` asks for, by their whole names. For
    `from a import b` that is a.b where this is a module here, else a."""
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    if not isinstance(statement, ast.ImportFrom):
        return []
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    base = statement.module or ""
    if statement.level:
        # The nodes' own parent is the pack, which the repository's root is.
        parts = ["", *package.split(".")]
        parents = parts[: len(parts) - statement.level + 1]
        base = ".".join([*parents, *base.split(".")]).strip(".")
    names = (f"{base}.{alias.name}" for alias in statement.names)
    return [name if name in MODULES else base for name in names]


def imports(name: str, *, anywhere: bool) -> set[str]:
    """What a module imports: anywhere in it, or only as it is imported itself."""
    tree = tree_of(MODULES[name])
    every = ast.walk(tree) if anywhere else statements(tree.body)
    return {found for statement in every for found in names_imported(name, statement)}


def test_the_modules_import_each_other_as_this_file_reads_it():
    """Else the other tests here would pass by seeing nothing."""
    assert "flashhead.stream.sampling" in imports("flashhead.stream.loop", anywhere=False)
    assert any(name.startswith("flashhead.") for name in imports("nodes.vae", anywhere=False))
    assert "nodes.stream.samplers" in imports("nodes", anywhere=False)


def test_a_folder_can_be_overlooked():
    tracked = [path for path in (ROOT / "flashhead").iterdir() if path.name != "__pycache__"]
    assert len(tracked) <= MOST_ENTRIES, sorted(path.name for path in tracked)
    nodes = [relative(path) for path in sources("nodes")]
    assert len(nodes) <= MOST_ENTRIES, nodes


def test_no_file_is_long():
    files = sources("flashhead", "nodes", "benchmarks", "tests")
    long = {relative(path): lines(path) for path in files if lines(path) > MOST_LINES_IN_A_FILE}
    assert not long


def test_the_whole_is_small():
    files = [path for path in sources("flashhead", "nodes") if not in_training(path)]
    assert sum(map(lines, files)) <= MOST_LINES


def test_no_module_imports_itself_by_others():
    graph = {name: imports(name, anywhere=False) & MODULES.keys() - {name} for name in MODULES}

    def cycle(name: str, above: list[str]) -> list[str]:
        if name in above:
            return [*above[above.index(name) :], name]
        if name in seen:
            return []
        seen.add(name)
        found = (cycle(other, [*above, name]) for other in sorted(graph[name]))
        return next(filter(None, found), [])

    seen: set[str] = set()
    cycles = [found for name in sorted(graph) if (found := cycle(name, []))]
    assert not cycles, [" -> ".join(found) for found in cycles]


def test_every_room_is_known():
    rooms = {name.split(".")[1] for name in MODULES if name.startswith("flashhead.")}
    assert rooms - {"__main__"} == ROOMS.keys()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_those_below_it(room: str):
    """Anywhere in its modules, within functions too."""
    wrong = set()
    for name in MODULES:
        if name.split(".")[:2] != ["flashhead", room]:
            continue
        for found in imports(name, anywhere=True):
            package, _, rest = found.partition(".")
            other = rest.partition(".")[0]
            # The package itself is above every room.
            if package == "flashhead" and other not in ROOMS[room] | {room}:
                wrong.add(f"{name} imports {found}")
    assert not wrong


def test_the_library_imports_neither_nodes_nor_comfyui():
    wrong = {
        f"{name} imports {found}"
        for name in MODULES
        if name.startswith("flashhead")
        for found in imports(name, anywhere=True)
        if found.split(".")[0] in (*COMFYUI, "nodes")
    }
    assert not wrong


def test_nothing_imports_the_training():
    wrong = {
        f"{name} imports {found}"
        for name, path in MODULES.items()
        if not in_training(path)
        for found in imports(name, anywhere=True)
        if f"{found}.".startswith("flashhead.training.")
    }
    assert not wrong


def test_the_source_is_valid_in_the_oldest_python():
    for path in sources("flashhead", "nodes", "benchmarks", "tests"):
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=OLDEST_PYTHON)


def test_each_slow_test_is_there():
    """What `make check` leaves out, by name in tests/conftest.py."""
    tree = tree_of(ROOT / "tests" / "conftest.py")
    assigned = {ast.unparse(s.targets[0]): s.value for s in tree.body if isinstance(s, ast.Assign)}
    for name in ast.literal_eval(assigned["SLOW"].args[0]):
        file, _, function = name.partition("::")
        text = (ROOT / "tests" / "library" / file).read_text(encoding="utf-8")
        assert f"def {function}(" in text or not function, name


def stages() -> dict[str, list[str]]:
    """Function → the stages of a chunk that it calls, in order, in library, nodes, benchmarks."""
    found: dict[str, list[str]] = {}
    for path in sources("flashhead", "nodes", "benchmarks"):
        for function in ast.walk(tree_of(path)):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
                calls.sort(key=lambda call: (call.lineno, call.col_offset))
                if called := [stage for call in calls if (stage := stage_of(call.func))]:
                    found[f"{relative(path)}:{function.name}"] = called
    return found


def stage_of(function: ast.expr) -> str | None:
    if isinstance(function, ast.Name) and function.id in STAGES:
        return function.id
    if isinstance(function, ast.Attribute):
        if function.attr in STAGES:
            return function.attr
        owner = ast.unparse(function.value).rpartition(".")[2].lower()
        if owner.endswith(OWNERS.get(function.attr, ())):
            return function.attr
    return None


def test_one_place_does_a_chunk():
    """Sampling, decoding, colours and encoding the last frames again, in this order: which
    functions do what."""
    called, loop = stages(), "flashhead/stream/loop.py"
    assert called[f"{loop}:decode_and_encode"] == ["decode", "match_color", "encode"]
    assert {where for where, found in called.items() if {"decode", "match_color"} <= {*found}} == {
        f"{loop}:decode_and_encode",
        "benchmarks/flashbench/compare.py:compare",  # each stage alone, against the reference's
    }
    assert {where for where, found in called.items() if "sample_latents" in found} == {
        f"{loop}:sample",
        "flashhead/training/distillation/rollout.py:roll_out",  # of encoded clips, for a loss
    }
    assert {where for where, found in called.items() if "decode_and_encode" in found} == {
        f"{loop}:decode",
        "flashhead/training/distillation/rollout.py:pixel_motion",
    }
    assert called[f"{loop}:step"] == ["sample", "decode"]
    assert [where for where, found in called.items() if found[:2] == ["sample", "decode"]] == [
        f"{loop}:step"
    ]
