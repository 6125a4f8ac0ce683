"""Facts on software, device, memory and encoders, and what the networks would compute in."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
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
from ..models.config import PUBLISHED_LITE, PUBLISHED_PRO, CheckpointConfigs, LTXVAEConfig
from ..models.generator import Generator
from ..models.limits import PUBLISHED_SIZE
from ..models.ltx_vae import LTXVAE
from ..models.memory import working_memory
from ..models.wan_vae import WanVAE
from ..models.wav2vec2 import AudioEncoder
from .host import Host, ram
from .report import Row, why

_PACKAGES = ("torch", "torchaudio", "av", "PIL", "safetensors", "numpy", "einops")
_ROOT = Path(__file__).parents[2]
_PUBLISHED = {"Lite": PUBLISHED_LITE, "Pro": PUBLISHED_PRO}


def software(host: Host) -> Iterator[Row]:
    """Versions of what this needs, by importing it: what is installed may not load."""
    yield Row("flashhead", _own_version())
    yield Row("system", f"{platform.platform()}, Python {platform.python_version()}")
    versions = {name: _version(name) for name in _PACKAGES}
    versions["av"] += f" (FFmpeg {getattr(av, 'ffmpeg_version_info', 'unknown')})"
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield Row("packages", told, versions)
    yield from host.software()


def _version(name: str) -> str:
    try:
        return importlib.import_module(name).__version__
    except Exception as error:  # torchaudio raises many kinds
        return f"does not import ({why(error)})"


def _own_version() -> str:
    """Of the pack's folder where this runs from one, else as installed by pip."""
    project = _ROOT / "pyproject.toml"
    if not project.is_file():
        return metadata.version("flashhead")
    found = re.search(r'^version = "(.+)"', project.read_text(encoding="utf-8"), re.M)
    commit = ("git", "-C", str(_ROOT), "log", "-1", "--format=, commit %h of %cs")
    # Without its own .git, that would be ComfyUI's.
    return (found[1] if found else "unknown") + (
        _output(*commit) if (_ROOT / ".git").exists() else ""
    )


def _output(*command: str) -> str:
    """What a program prints; "" where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return "" if done.returncode else done.stdout.strip()


def device(host: Host) -> Iterator[Row]:
    """What computes, and by which driver."""
    chosen = host.device
    yield Row("device", f"{chosen}, {_name(chosen)}", {"type": chosen.type})
    if chosen.type == "cuda":
        card = torch.cuda.get_device_properties(chosen)
        if torch.version.hip:
            yield Row("ROCm", f"{torch.version.hip}, {card.gcnArchName}")
        else:
            smi = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
            driver = smi.partition("\n")[0] or "unknown"
            capability = f"compute capability {card.major}.{card.minor}"
            yield Row("CUDA", f"{torch.version.cuda}, {capability}, driver {driver}")
            yield Row("cuDNN", str(torch.backends.cudnn.version()))
    elif chosen.type == "xpu":
        yield Row("driver", torch.xpu.get_device_properties(chosen).driver_version)
    elif chosen.type == "cpu":
        names = {kind: getattr(torch.version, kind, None) for kind in ("cuda", "hip", "xpu")}
        built = [f"{name} {version}" for name, version in names.items() if version]
        yield Row("GPU", f"none that torch sees; it is built for {built[0] if built else 'none'}")


def _name(device: torch.device) -> str:
    if device.type in ("cuda", "xpu"):
        return getattr(torch, device.type).get_device_name(device)
    if device.type == "mps":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or "no name known"
    if device.type != "cpu":
        return "no name known"
    name = platform.processor()
    with suppress(OSError):
        name = re.findall("model name\\s*: (.*)", Path("/proc/cpuinfo").read_text())[0]
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{name}, {torch.get_num_threads()} of {os.cpu_count()} threads, {instructions}"


def computing(host: Host) -> Iterator[Row]:
    """The dtypes and the attention that are used, and why."""
    lite, pro = (host.precision(sizes.vae) for sizes in _PUBLISHED.values())
    for name, dtype, reason in (
        ("generator", lite.generator, lite.reasons["generator"]),
        ("Lite's VAE", lite.vae, lite.reasons["vae"]),
        ("Pro's VAE", pro.vae, pro.reasons["vae"]),
        ("audio encoder", lite.audio_encoder, lite.reasons["audio_encoder"]),
    ):
        yield Row(name, f"{torch_name(dtype)}: {reason}", {"dtype": torch_name(dtype)})
    kernel, reason = host.attention()
    yield Row("attention", f"{kernel}: {reason}", {"kernel": kernel})


def memory(host: Host) -> Iterator[Row]:
    """What is free, and what Lite and Pro need of it."""
    height, width = PUBLISHED_SIZE
    usable = host.free()
    if host.device.type != "cpu":
        yield _free("device", usable)
    yield _free("RAM", ram())
    disk = shutil.disk_usage(host.output)
    yield _free("disk", (disk.free, disk.total), f" in {host.output}")
    for name, sizes in _PUBLISHED.items():
        weights, chunk = need(host, sizes)
        text = f"weights {_gb(weights)} + a chunk at {width}x{height} {_gb(chunk)}"
        if usable is not None:
            text += ": fits" if weights + chunk <= usable[0] else ": does not fit at once"
        yield Row(name, text, {"weights": weights, "chunk": chunk})


def _free(label: str, memory: tuple[int, int] | None, where: str = "") -> Row:
    if memory is None:
        return Row(label, "cannot be told")
    free, total = memory
    return Row(label, f"{_gb(free)} of {_gb(total)} free{where}", {"free": free, "total": total})


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def need(host: Host, sizes: CheckpointConfigs) -> tuple[int, int]:
    """Bytes of a published checkpoint's weights as a host computes with them, and of a chunk."""
    used = host.precision(sizes.vae)
    dtypes = (used.generator, used.vae, used.audio_encoder)
    weights = sum(n * d.itemsize for n, d in zip(elements(sizes), dtypes, strict=True))
    return weights, working_memory(sizes.generator, used.generator, PUBLISHED_SIZE)


@cache
def elements(sizes: CheckpointConfigs) -> tuple[int, ...]:
    """Of the weights that generator, VAE and audio encoder compute with."""
    vae = sizes.vae
    networks = (
        build(lambda: Generator(sizes.generator)),
        build(lambda: LTXVAE(vae) if isinstance(vae, LTXVAEConfig) else WanVAE(vae)),
        build(lambda: AudioEncoder(sizes.audio_encoder)),
    )
    return tuple(sum(w.numel() for w in network.parameters()) for network in networks)


def encoders() -> Iterator[Row]:
    """What a video can be written by: each encoder is opened, for some are listed that fail."""
    height, width = PUBLISHED_SIZE
    used = ""
    for name in H264_ENCODERS:
        fault = h264_fault(name, height, width, Fraction(FPS))
        if fault != name:  # the name alone: this PyAV has none of that name
            text = f"does not open: {fault}" if fault else "opens" if used else "opens, and is used"
            yield Row(name, text, {"opens": not fault})
            used = used or ("" if fault else name)
    if not used:
        yield Row(
            "H.264", f"no encoder opens (of {', '.join(H264_ENCODERS)}); install av from PyPI"
        )
    context = av.CodecContext.create("aac", "w")
    context.sample_rate, context.layout, context.format = 48_000, "stereo", "fltp"
    context.open()
    yield Row("aac", "opens", {"opens": True})
