"""What a run is watched for beside its stages: wall time, memory, waits."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from flashhead.stream.clock import synchronize

try:
    import resource
except ImportError:  # Windows
    resource = None


@contextmanager
def stopwatch(device: torch.device) -> Iterator[list[float]]:
    """Wall time of a block, its device work included, appended to the list."""
    seconds: list[float] = []
    synchronize(device)
    start = time.perf_counter()
    yield seconds
    synchronize(device)
    seconds.append(time.perf_counter() - start)


@contextmanager
def watch_waits(device: torch.device) -> Iterator[list[str]]:
    """Lines of Python at which a block made the CPU wait for CUDA, as torch's debug mode sees
    them. Empty on other devices."""
    lines: list[str] = []
    if device.type != "cuda":
        yield lines
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lines
        finally:
            torch.cuda.set_sync_debug_mode(before)
    lines += [
        f"{Path(warning.filename).name}:{warning.lineno}"
        for warning in caught
        if "synchroniz" in str(warning.message)
    ]


def forget_peak(device: torch.device) -> None:
    """Start the device's peak memory afresh, where it can be."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Bytes: of CUDA tensors since `forget_peak`, elsewhere of the whole process since it began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
