"""Facts on software, device, memory and encoders, and what the networks would compute in."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from importlib import metadata
from pathlib import Path

import av
import torch

from ..dtypes import torch_name
from ..geometry import FPS
from ..media.video_writer import H264_ENCODERS, h264_fault
from ..models.backend import build
from ..models.bundle import make_vae
from ..models.config import PUBLISHED_LITE, PUBLISHED_PRO, CheckpointConfigs
from ..models.generator import Generator
from ..models.limits import PUBLISHED_SIZE
from ..models.memory import working_memory
from ..models.wav2vec2 import AudioEncoder
from .host import Host, ram
from .report import Row, why

_PACKAGES = ("torch", "torchaudio", "av", "PIL", "safetensors", "numpy", "einops")
_PUBLISHED = {"Lite": PUBLISHED_LITE, "Pro": PUBLISHED_PRO}


def software(host: Host) -> Iterator[Row]:
    """Versions, by importing what this needs: what is installed may not load."""
    project = Path(__file__).parents[2] / "pyproject.toml"
    if project.is_file():  # as a folder of nodes, which pip does not know
        found = re.search('^version = "(.+)"', project.read_text(encoding="utf-8"), re.M)
        version = found[1] if found else "unknown"
    else:
        version = metadata.version("flashhead")
    system = f"{platform.platform()}, Python {platform.python_version()}"
    yield Row("flashhead", f"{version} on {system}")
    ffmpeg = getattr(av, "ffmpeg_version_info", "unknown")
    versions = [f"{name} {_version(name)}" for name in _PACKAGES]
    yield Row("packages", ", ".join([*versions, f"FFmpeg {ffmpeg}"]))
    yield from host.software()


def _version(name: str) -> str:
    try:
        return importlib.import_module(name).__version__
    except Exception as error:  # torchaudio raises many kinds
        return f"does not import ({why(error)})"


def device(host: Host) -> Iterator[Row]:
    """What computes, and by which driver."""
    chosen, kind = host.device, host.device.type
    if kind == "cpu":
        threads = f"{torch.get_num_threads()} of {os.cpu_count()} threads"
        name = f"{platform.processor()} {torch.backends.cpu.get_cpu_capability()}, {threads}"
    else:
        named = kind in ("cuda", "xpu")
        name = getattr(torch, kind).get_device_name(chosen) if named else platform.machine()
    yield Row("device", f"{chosen}, {name.strip()}")
    if kind == "cuda":
        card = torch.cuda.get_device_properties(chosen)
        if torch.version.hip:
            yield Row("ROCm", f"{torch.version.hip}, {card.gcnArchName}")
        else:
            capability = f"compute capability {card.major}.{card.minor}"
            yield Row("CUDA", f"{torch.version.cuda}, {capability}, driver {_nvidia_driver()}")
            yield Row("cuDNN", str(torch.backends.cudnn.version()))
    elif kind == "xpu":
        yield Row("driver", torch.xpu.get_device_properties(chosen).driver_version)
    elif kind == "cpu":
        built = [n for n in ("cuda", "hip", "xpu") if getattr(torch.version, n, None)]
        yield Row("GPU", f"none that torch sees; it is built for {built[0] if built else 'none'}")


def _nvidia_driver() -> str:
    command = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.partition("\n")[0]


def computing(host: Host) -> Iterator[Row]:
    """The dtypes and the attention that are used, and why."""
    lite, pro = (host.precision(sizes.vae) for sizes in _PUBLISHED.values())
    for name, dtype, reason in (
        ("generator", lite.generator, lite.reasons["generator"]),
        ("Lite's VAE", lite.vae, lite.reasons["vae"]),
        ("Pro's VAE", pro.vae, pro.reasons["vae"]),
        ("audio encoder", lite.audio_encoder, lite.reasons["audio_encoder"]),
    ):
        yield Row(name, f"{torch_name(dtype)}: {reason}")
    kernel, reason = host.attention()
    yield Row("attention", f"{kernel} in the generator: {reason}; torch's in the others")


def memory(host: Host) -> Iterator[Row]:
    """What is free, and what Lite and Pro need of it."""
    disk, usable = shutil.disk_usage(host.output), host.free()
    found = [] if host.device.type == "cpu" else [("device", usable)]
    for label, pair in (*found, ("RAM", ram()), ("disk", (disk.free, disk.total))):
        told = "cannot be told" if pair is None else f"{_gb(pair[0])} of {_gb(pair[1])} free"
        yield Row(label, told)
    height, width = PUBLISHED_SIZE
    for name, sizes in _PUBLISHED.items():
        weights, chunk = need(host, sizes)
        text = f"weights {_gb(weights)} + a chunk at {width}x{height} {_gb(chunk)}"
        if usable is not None:
            text += ": fits" if weights + chunk <= usable[0] else ": does not fit at once"
        yield Row(name, text, {"weights": weights, "chunk": chunk})


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def need(host: Host, sizes: CheckpointConfigs) -> tuple[int, int]:
    """Bytes of a published checkpoint's weights as a host computes with them, and of a chunk."""
    used = host.precision(sizes.vae)
    dtypes = (used.generator, used.vae, used.audio_encoder)
    weights = sum(n * d.itemsize for n, d in zip(elements(sizes), dtypes, strict=True))
    return weights, working_memory(sizes, used, PUBLISHED_SIZE)


@cache
def elements(sizes: CheckpointConfigs) -> tuple[int, ...]:
    """Of the weights that generator, VAE and audio encoder compute with."""
    networks = (
        build(lambda: Generator(sizes.generator)),
        build(lambda: make_vae(sizes.vae)),
        build(lambda: AudioEncoder(sizes.audio_encoder)),
    )
    return tuple(sum(w.numel() for w in network.parameters()) for network in networks)


def encoders() -> Iterator[Row]:
    """What a video can be written by: each encoder is opened, for some are listed that fail."""
    used = ""
    for name in H264_ENCODERS:
        fault = h264_fault(name, *PUBLISHED_SIZE, Fraction(FPS))
        if fault != name:  # the name alone: this PyAV has none of that name
            yield Row(name, f"does not open: {fault}" if fault else "opens")
            used = used or ("" if fault else name)
    yield Row("H.264", f"by {used}" if used else "no encoder opens: install av from PyPI")
    context = av.CodecContext.create("aac", "w")
    context.sample_rate, context.layout, context.format = 48_000, "stereo", "fltp"
    context.open()
    yield Row("aac", "opens")
