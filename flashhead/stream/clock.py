"""Stopwatch for the stages of work on a device."""

import time
from itertools import pairwise

import torch


def synchronize(device: torch.device) -> None:
    """Wait for what was queued on a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "xpu":
        torch.xpu.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Clock:
    """Splits a stretch of work into named laps, without waiting for the device in between.

    On CUDA a lap's time is the device's, between two events in its queue; elsewhere it is the
    wall's. The clock starts when made.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._laps: list[str] = []
        self._events: list[torch.cuda.Event] = []  # on CUDA
        self._times: list[float] = []  # elsewhere
        synchronize(device)
        self._mark()

    def _mark(self) -> None:
        if self._device.type == "cuda":
            self._events.append(torch.cuda.Event(enable_timing=True))
            self._events[-1].record()
        else:
            synchronize(self._device)
            self._times.append(time.perf_counter())

    def lap(self, name: str) -> None:
        """End the lap that runs now, and call it `name`."""
        self._laps.append(name)
        self._mark()

    def seconds(self) -> dict[str, float]:
        """Time of each lap, those of one name together, in order; waits for the device."""
        synchronize(self._device)
        passed = [end - start for start, end in pairwise(self._times)]
        passed += [start.elapsed_time(end) / 1000 for start, end in pairwise(self._events)]
        total: dict[str, float] = {}
        for name, seconds in zip(self._laps, passed, strict=True):
            total[name] = total.get(name, 0.0) + seconds
        return total
