"""Stopwatch for a device's queue, and what else a run is watched for: memory, waits."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None


def synchronize(device: torch.device) -> None:
    """Wait for what was queued on a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Clock:
    """Splits a stretch of work into named laps, without waiting for the device in between.

    On CUDA a lap's time is the device's, between two events in its queue; elsewhere it is the
    wall's. The clock starts when made.
    """

    def __init__(self, device: torch.device):
        self._device = device
        synchronize(device)
        self._laps: list[str] = []
        self._marks = [self._now()]

    def _now(self) -> float | torch.cuda.Event:
        if self._device.type != "cuda":
            synchronize(self._device)
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def lap(self, name: str) -> None:
        """End the lap that runs now, and call it `name`."""
        self._laps.append(name)
        self._marks.append(self._now())

    def seconds(self) -> dict[str, float]:
        """Time of each lap, those of one name together, in order; waits for the device."""
        synchronize(self._device)
        total: dict[str, float] = {}
        for name, start, end in zip(self._laps, self._marks, self._marks[1:], strict=False):
            passed = end - start if isinstance(end, float) else start.elapsed_time(end) / 1000
            total[name] = total.get(name, 0.0) + passed
        return total


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
