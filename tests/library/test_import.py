"""`import flashhead` is free: no heavy or foreign module, no file, no global state."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, logging, random, sys, threading, warnings
import numpy, torch, einops, safetensors, PIL.Image, av
sys.path.insert(0, sys.argv[1])

def state():
    return repr((
        torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.get_num_threads(),
        torch.is_grad_enabled(), torch.get_float32_matmul_precision(),
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark,
        numpy.random.get_state(), random.getstate(), sys.path, warnings.filters,
        logging.root.level, logging.root.handlers, threading.active_count(),
        torch.cuda.is_initialized(),
    ))

touched = []
def audit(event, args):
    if event == "open" and not str(args[0]).endswith((".py", ".pyc", ".so")):
        touched.append(str(args[0]))
    elif event in ("os.mkdir", "os.remove", "os.rename", "socket.connect", "subprocess.Popen"):
        touched.append(event)

def packages():
    return {name.split(".")[0] for name in sys.modules}

before, modules = state(), packages()
sys.addaudithook(audit)
import flashhead
print(json.dumps({
    "same": before == state(),
    "touched": touched,
    "new": sorted(packages() - modules),
    "all": all(hasattr(flashhead, name) for name in flashhead.__all__),
}))
"""


def test_importing_does_nothing_else():
    result = subprocess.run(
        [sys.executable, "-I", "-B", "-c", SCRIPT, str(ROOT)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT.parent,
    )
    seen = json.loads(result.stdout)
    assert seen["same"] and seen["all"] and seen["touched"] == []
    foreign = set(seen["new"]) - sys.stdlib_module_names - {"flashhead"}
    assert foreign == set()


def test_the_library_never_names_comfy():
    for path in (ROOT / "flashhead").rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].split(".")[0] not in ("comfy", "comfy_api", "folder_paths"), path
