"""The published sizes on a CPU, from files to frames: random weights are written in the published
layout, counted, converted to one file, loaded and run for one chunk.

    python benchmarks/full_size_smoke.py --variant lite        # 17 GB of disk, 20 GB of memory
    python benchmarks/full_size_smoke.py --variant pro --size 64x64

Every phase is a process of its own, so that its peak of memory is its own. Prints one line of JSON;
the exit status is 1 where a size differs or a peak passes the limit.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from flashbench.report import describe_machine
from flashbench.watch import peak_memory

import flashhead
from flashhead.checkpoint.weights import open_weights
from flashhead.dtypes import STORAGE_DTYPES
from flashhead.examples import PHOTOGRAPH
from flashhead.testing import PUBLISHED_LITE, PUBLISHED_PRO, write_checkpoint

SIZES = {"lite": PUBLISHED_LITE, "pro": PUBLISHED_PRO}
# DESIGN §1.1: bytes in float32, elements, tensors (None where the page has none).
FILES = {
    "Model_Lite/diffusion_pytorch_model.safetensors": (6_107_542_048, 1_526_864_256, 843),
    "Model_Pro/diffusion_pytorch_model.safetensors": (6_030_864_656, 1_507_694_912, 843),
    "VAE_LTX/diffusion_pytorch_model.safetensors": (1_676_798_532, 419_193_905, 190),
    "VAE_Wan/Wan2.1_VAE.pth": (507_609_880, 126_892_531, 194),
    "wav2vec2-base-960h/model.safetensors": (377_607_901, None, None),
}
PTH_SLACK = 1000  # torch's older format names storages by their addresses


def write(folder: str, variant: str, source_dtype: str) -> None:
    write_checkpoint(folder, SIZES[variant], dtype=STORAGE_DTYPES[source_dtype])


def count(folder: str, source_dtype: str) -> dict[str, int]:
    """Bytes of each weight file, once they are found to be the published ones."""
    sizes = {}
    for name, (size, elements, tensors) in FILES.items():
        path = Path(folder) / name
        if not path.exists():
            continue
        found, shapes = path.stat().st_size, open_weights(path).shapes
        if elements is not None:
            assert sum(map(math.prod, shapes.values())) == elements, name
            assert len(shapes) == tensors, name
        if source_dtype == "fp32":
            assert abs(found - size) <= (PTH_SLACK if path.suffix == ".pth" else 0), name
        sizes[name] = found
    return sizes


def convert(folder: str, bundle: str, dtype: str) -> int:
    return flashhead.convert(folder, bundle, dtype=dtype)


def generate(path: str, dtype: str, size: tuple[int, int], steps: int) -> dict[str, Any]:
    """One chunk of noise for speech; its frames must be finite and no flat picture."""
    start = time.perf_counter()
    bundle = flashhead.load_bundle(path, dtype=STORAGE_DTYPES[dtype])
    loaded = time.perf_counter()
    samples = torch.randn(bundle.geometry.new_samples, generator=torch.Generator().manual_seed(0))
    (chunk,) = flashhead.generate(
        bundle, PHOTOGRAPH, samples * 0.1, 16_000, size=size, steps=steps, color_match=0.0
    )
    done = time.perf_counter()
    assert torch.isfinite(chunk.frames).all() and chunk.frames.std() > 0.01
    return {
        "frames": list(chunk.frames.shape),
        "mean": round(chunk.frames.mean().item(), 4),
        "std": round(chunk.frames.std().item(), 4),
        "load_seconds": round(loaded - start, 2),
        "chunk_seconds": round(done - loaded, 1),
    }


def _measured(work: Callable[..., Any], arguments: tuple) -> tuple[Any, int, float]:
    start = time.perf_counter()
    result = work(*arguments)
    return result, _peak(), time.perf_counter() - start


def _peak() -> int:
    """This process's peak of memory; Linux's ru_maxrss would include its parent's."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return peak_memory(torch.device("cpu"))
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _phase(name: str, work: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    print(f"{name} ...", file=sys.stderr, flush=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result, peak, seconds = pool.apply(_measured, (work, arguments))
    return {"seconds": round(seconds, 1), "peak_gb": round(peak / 1e9, 2), "result": result}


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(height), int(width)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    add = parser.add_argument
    add("--variant", choices=SIZES, default="lite")
    add("--size", type=_size, default=(512, 512), metavar="WxH", help="default 512x512")
    add("--steps", type=int, default=4)
    add("--source-dtype", choices=("fp32", "bf16"), default="fp32", help="of the folder written")
    add(
        "--store", choices=STORAGE_DTYPES, nargs="+", default=["bf16"], help="bundles to convert to"
    )
    add("--dtype", choices=("fp32", "bf16"), default="fp32", help="to compute in")
    add("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    add("--limit", type=float, default=20.0, metavar="GB", help="of memory; default 20")
    options = parser.parse_args(arguments)
    phases = {}
    with tempfile.TemporaryDirectory(prefix="flashhead-", dir=options.folder) as root:
        folder = str(Path(root) / "checkpoint")
        phases["write"] = _phase("write", write, folder, options.variant, options.source_dtype)
        phases["count"] = _phase("count", count, folder, options.source_dtype)
        for store in options.store:
            bundle = str(Path(root) / f"{store}.safetensors")
            phases[f"convert {store}"] = _phase(f"convert {store}", convert, folder, bundle, store)
        # Of the bundle that was made last.
        phases["generate"] = _phase(
            "generate", generate, bundle, options.dtype, options.size, options.steps
        )
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    machine = describe_machine(torch.device("cpu"))
    print(json.dumps({"machine": machine, "settings": settings, "phases": phases}))
    return int(any(phase["peak_gb"] > options.limit for phase in phases.values()))


if __name__ == "__main__":
    sys.exit(main())
