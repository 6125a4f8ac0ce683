"""Stopwatch for the stages of work on a device."""

from __future__ import annotations

import time

import torch


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
