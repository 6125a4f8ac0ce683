"""How much a chunk computes, counted from shapes, and how fast the device multiplies matrices."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from flashhead import Bundle
from flashhead.geometry import SAMPLE_RATE
from flashhead.stream.clock import synchronize


def _tflop(function: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops() / 1e12


@torch.no_grad()
def count_work(
    bundle: Bundle, size: tuple[int, int], steps: int, cache_seconds: float
) -> dict[str, float]:
    """TFLOP of each stage of a chunk (a multiplication and an addition are two).

    Matrix products, convolutions and attention; what is done element by element counts nothing.
    `bundle` is one of the meta device: nothing is computed.
    """
    generator, vae, geometry = bundle.generator, bundle.vae, bundle.geometry
    config = generator.config
    latents = torch.empty(1, *geometry.latent_shape(size), device="meta")
    motion = torch.empty(1, 3, geometry.motion_frames, *size, device="meta")
    sound = torch.empty(1, round(cache_seconds * SAMPLE_RATE), device="meta")
    context = torch.empty(
        1, geometry.frames, config.audio_window, 1, config.audio_width, device="meta"
    )
    time_condition = generator.embed_timesteps(torch.ones(1), latents.device)
    audio = generator.embed_audio(context)
    rotary = generator.rotary(latents.shape, latents.device)
    step = _tflop(lambda: generator.denoise(latents, latents, time_condition, audio, rotary))
    return {
        "audio": _tflop(lambda: bundle.audio_encoder.encode(sound)),
        "conditioning": _tflop(lambda: generator.embed_audio(context)),
        **{f"step {number}": step for number in range(1, steps + 1)},
        "decode": _tflop(lambda: vae.decode(latents)),
        "re-encode": _tflop(lambda: vae.encode(motion)),
    }


def matmul_rate(
    device: torch.device, dtype: torch.dtype, size: int | None = None, seconds: float = 0.3
) -> float:
    """Matrix products of random square matrices, in TFLOP/s: the best of several runs."""
    size = size or (8192 if device.type == "cuda" else 512)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    best, repeats = float("inf"), 1
    end = time.perf_counter() + seconds
    torch.mm(a, b, out=out)
    while best == float("inf") or time.perf_counter() < end:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(repeats):
            torch.mm(a, b, out=out)
        synchronize(device)
        best = min(best, (time.perf_counter() - start) / repeats)
        repeats = max(repeats, min(20, int(0.1 / best)))  # a queue's start must not count
    return 2 * size**3 / best / 1e12
