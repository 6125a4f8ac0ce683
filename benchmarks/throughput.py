"""Throughput of FlashHead by stage, on random weights of the published sizes.

    python benchmarks/throughput.py --variant lite --device cuda --dtype bfloat16 --compile
    python benchmarks/throughput.py --variant pro --layers 4 --size 64x64 --reference CHECKOUT

See README.md beside this file for what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from flashbench.compare import compare
from flashbench.models import VARIANTS, abstract_bundle, random_bundle, sizes_of
from flashbench.reference import Reference, check_checkout
from flashbench.report import Results, describe_machine, rounded, summary
from flashbench.stages import TimedStream, speech_like
from flashbench.watch import forget_peak, peak_memory, stopwatch
from flashbench.work import count_work, matmul_rate

import flashhead
from flashhead.dtypes import COMPUTE_DTYPES, torch_name
from flashhead.examples import PHOTOGRAPH
from flashhead.geometry import FPS

DTYPES = {torch_name(dtype): dtype for dtype in COMPUTE_DTYPES.values()}


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(height), int(width)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--variant", choices=VARIANTS, default="lite")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--dtype", choices=DTYPES, help="default: bfloat16 on a GPU, float32 on the CPU")
    add("--size", type=_size, default=(512, 512), metavar="WxH", help="default 512x512")
    add("--layers", type=int, help="blocks of the generator; default the published 30")
    add("--reduced", action="store_true", help="miniature networks: to try the script out")
    add("--steps", type=int, default=4)
    add("--chunks", type=int, default=5, help="measured, after one that warms up")
    add("--threads", type=int, help="of the CPU; one is steadier than all on a shared machine")
    add("--compile", action="store_true", help="torch.compile for generator and VAE")
    add("--seed", type=int, default=42)
    add("--reference", type=Path, metavar="PATH", help="checkout to measure in the same run")
    add("--json", type=Path, metavar="OUT", help="write machine, settings and results there")
    options = parser.parse_args(arguments)
    if options.chunks < 1:
        parser.error("--chunks must be at least 1")
    if options.reduced and options.reference:
        parser.error("the reference has no reduced networks; use --layers and --size")
    if options.dtype is None:
        options.dtype = "float32" if options.device == "cpu" else "bfloat16"
    return options


@dataclass
class Samples:
    """What the measured chunks took."""

    stages: list[dict[str, float]]
    stream: list[float]
    reference: list[dict[str, float]]


def _medians(chunks: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(chunk[name] for chunk in chunks) for name in chunks[0]} if chunks else {}


def _compile(bundle: flashhead.Bundle) -> None:
    # Static: the portrait has another length than the motion frames, and torch would compile the
    # second of them, which every chunk runs, for any length.
    for network, name in (
        (bundle.generator, "denoise"),
        (bundle.vae, "encode"),
        (bundle.vae, "decode"),
    ):
        setattr(network, name, torch.compile(getattr(network, name), dynamic=False))


def _rates(device: torch.device, dtype: str) -> dict[str, float]:
    """Matrix products by dtype, TFLOP/s: of bfloat16, of the audio encoder's and of the run's."""
    names = dict.fromkeys(("bfloat16", "float32", dtype))
    return {name: matmul_rate(device, DTYPES[name]) for name in names}


def measure(options: argparse.Namespace) -> Results:
    """Run everything that was asked for."""
    if options.reference:
        check_checkout(options.reference)
    device, dtype = torch.device(options.device), DTYPES[options.dtype]
    rates = _rates(device, options.dtype)
    sizes = sizes_of(options.variant, reduced=options.reduced, layers=options.layers)
    settings = flashhead.Settings(size=options.size, seed=options.seed, steps=options.steps)
    with stopwatch(device) as weights_s:
        bundle = random_bundle(options.variant, sizes, device, dtype)
    if options.compile:
        _compile(bundle)

    start = time.perf_counter()
    stream = TimedStream(bundle, str(PHOTOGRAPH), settings)
    open_s, compile_s = time.perf_counter() - start, None
    if options.compile:  # once more, to tell the compiling from the opening
        with stopwatch(device) as again:
            flashhead.LiveStream(bundle, str(PHOTOGRAPH), settings)
        open_s, compile_s = again[0], open_s - again[0]

    count = bundle.geometry.new_samples
    speech = speech_like((options.chunks + 1) * count, options.seed).split(count)
    beginning = stream.live.state
    forget_peak(device)
    _, first_chunk_s = stream.whole(speech[0])
    peak = peak_memory(device)

    reference, differences = None, {}
    if options.reference:
        reference = Reference(
            options.reference, bundle, PHOTOGRAPH, settings, options.steps, compiled=options.compile
        )
        now, stream.live.state = stream.live.state, beginning
        differences = compare(stream.live, reference, speech[0])
        stream.live.state = now
        reference.advance(now.audio.samples[0])

    taken = Samples([], [], [])
    for samples in speech[1:]:
        forget_peak(device)
        _, stages, waits = stream.by_stage(samples)
        taken.stages.append(stages)
        _, seconds = stream.whole(samples)
        taken.stream.append(seconds)
        peak = max(peak, peak_memory(device)) if device.type == "cuda" else peak
        if reference:
            taken.reference.append(reference.advance(stream.live.state.audio.samples[0]))

    # A machine that others use is not equally free at both times.
    rates = {name: max(rate, rates[name]) for name, rate in _rates(device, options.dtype).items()}
    work = count_work(
        abstract_bundle(options.variant, sizes),
        options.size,
        options.steps,
        settings.cache_seconds,
    )
    end_to_end, fresh_frames = median(taken.stream), bundle.geometry.new_frames
    floor = fresh_frames * rates[options.dtype] / sum(work.values())
    fps = fresh_frames / end_to_end
    return {
        "stages": _stage_rows(taken, work, rates, options.dtype, differences),
        "fps": fps,
        "real_time_factor": fps / FPS,
        "floor_fps": floor,
        "of_floor": fps / floor,
        "matmul_tflops": rates,
        "peak_memory_bytes": peak,
        "weights_s": weights_s[0],
        "open_s": open_s,
        "first_chunk_s": first_chunk_s,
        "compile_s": None if compile_s is None else compile_s + first_chunk_s - end_to_end,
        "waits": waits if device.type == "cuda" else None,
    }


def _stage_rows(
    taken: Samples,
    work: dict[str, float],
    rates: dict[str, float],
    dtype: str,
    differences: dict[str, dict[str, float]],
) -> dict[str, dict[str, Any]]:
    """The table: each stage, the denoising in all, the sum, and the stream itself."""
    ours, theirs = _medians(taken.stages), _medians(taken.reference)
    denoising = [name for name in ours if name.startswith(("noise", "conditioning", "step "))]
    work = work | {"denoise, all": sum(work.get(name, 0.0) for name in denoising)}
    work |= {"end to end": sum(work.values()) - work["denoise, all"]}
    rows: dict[str, dict[str, Any]] = {}

    def row(name: str, seconds: float, their_seconds: float | None, difference: str = "") -> None:
        rows[name] = {"ms": seconds * 1000}
        if name in work:
            # The audio encoder computes in float32 whatever the dtype.
            rate = rates["float32" if name == "audio" else dtype]
            rows[name] |= {"tflop": work[name], "of_matmul": work[name] / seconds / rate}
        if their_seconds is not None:
            rows[name] |= {
                "reference_ms": their_seconds * 1000,
                "speed_up": their_seconds / seconds,
            }
        rows[name] |= differences.get(difference or name, {})

    for name, seconds in ours.items():
        row(name, seconds, theirs.get(name), "step" if name == "step 1" else name)
    row(
        "denoise, all",
        sum(ours[name] for name in denoising),
        sum(theirs.get(name, 0.0) for name in denoising) if theirs else None,
    )
    row("sum of stages", sum(ours.values()), sum(theirs.values()) if theirs else None)
    totals = [sum(chunk.values()) for chunk in taken.reference]
    row("end to end", median(taken.stream), median(totals) if totals else None, "chunk")
    return rows


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    device = torch.device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    settings = {
        "variant": options.variant,
        "size": "{1}x{0}".format(*options.size),
        "layers": sizes_of(
            options.variant, reduced=options.reduced, layers=options.layers
        ).generator.num_layers,
        "reduced": options.reduced,
        "dtype": options.dtype,
        "steps": options.steps,
        "chunks": options.chunks,
        "compiled": options.compile,
        "seed": options.seed,
    }
    try:
        results = measure(options)
    except flashhead.FlashHeadError as error:
        print(error, file=sys.stderr)
        return 1
    machine = describe_machine(device)
    print(summary(machine, settings, results))
    if options.json:
        written = {"machine": machine, "settings": settings, "results": rounded(results)}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
