"""A benchmark's results as a table to read and as JSON to keep."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

Results = dict[str, Any]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What the figures hang on, without the machine's name."""
    machine = {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        machine |= {
            "gpu": properties.name,
            "gpu_memory_gib": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
        }
    return machine


def rounded(value: Any) -> Any:
    """Floats to four digits, all the way down; more would be noise."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return value


_OURS = ("stage", "ms", "TFLOP", "of matmul")
_BOTH = ("reference ms", "speed-up", "max diff", "mean diff")


def _cell(value: float | None, style: str) -> str:
    return "" if value is None else format(value, style)


def table(results: Results) -> str:
    """The stages in Markdown; columns of the reference only where it ran."""
    rows = [[*_OURS, *_BOTH]]
    for name, stage in results["stages"].items():
        rows.append(
            [
                name,
                _cell(stage["ms"], ".1f"),
                _cell(stage.get("tflop"), ".3g"),
                _cell(stage.get("of_matmul"), ".0%"),
                _cell(stage.get("reference_ms"), ".1f"),
                _cell(stage.get("speed_up"), ".2f"),
                _cell(stage.get("max_abs"), ".1e"),
                _cell(stage.get("mean_abs"), ".1e"),
            ]
        )
    if not any("reference_ms" in stage for stage in results["stages"].values()):
        rows = [row[: len(_OURS)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def summary(machine: Mapping[str, Any], settings: Mapping[str, Any], results: Results) -> str:
    """The table, what it was measured on, and the figures that are no stage's."""
    where = machine.get("gpu") or f"{machine['cpu']}, {machine['cores']} cores"
    asked = ", ".join(f"{key} {value}" for key, value in settings.items())
    rates = ", ".join(f"{dtype} {rate:.3g}" for dtype, rate in results["matmul_tflops"].items())
    lines = [
        f"{where}, torch {machine['torch']}, {machine['date']}",
        asked,
        "",
        table(results),
        "",
        f"frames/s {results['fps']:.2f} ({results['real_time_factor']:.3f} x real time); floor by "
        f"matmul {results['floor_fps']:.1f} frames/s, reached {results['of_floor']:.0%}",
        f"a chunk, from its samples to its frames: {results['stages']['end to end']['ms']:.0f} ms",
        f"matmul TFLOP/s: {rates}",
        f"peak memory {results['peak_memory_bytes'] / 2**30:.2f} GiB; weights made in "
        f"{results['weights_s']:.1f} s, stream opened in {results['open_s']:.2f} s, first chunk "
        f"{results['first_chunk_s']:.2f} s",
    ]
    if results.get("compile_s") is not None:
        lines.append(f"compiled in {results['compile_s']:.1f} s")
    if results.get("waits") is not None:
        at = f" (at {', '.join(results['waits'])})" if results["waits"] else ""
        lines.append(f"waits for the device inside a chunk: {len(results['waits'])}{at}")
    return "\n".join(lines)
