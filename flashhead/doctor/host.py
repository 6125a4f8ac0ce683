"""Who runs the networks: the library itself, or a host such as ComfyUI with ways of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend

from ..checkpoint.loading import load_bundle
from ..dtypes import torch_name
from ..models.bundle import Bundle
from ..models.config import PUBLISHED_LITE, VAEConfig
from ..models.devices import Precision, precision
from ..pocket import NAME as POCKET
from .report import Row


@dataclass(frozen=True)
class Host:
    """What a host decides, so that the page says what is really used.

    precision: what the networks of a checkpoint with such a VAE compute in on `device`. attention:
    the generator's kernel, and why. load: the pocket checkpoint with its generator in a dtype,
    ready to compute. free: bytes of the device's memory that can be used, and all of it; None is
    unknown. output: the folder of videos. software: rows on the host itself. passing: exceptions
    that end the examination, such as the one for Cancel.
    """

    device: torch.device
    precision: Callable[[VAEConfig], Precision]
    attention: Callable[[], tuple[str, str]]
    load: Callable[[torch.dtype], Bundle]
    free: Callable[[], tuple[int, int] | None]
    output: Path
    software: Callable[[], Iterable[Row]] = tuple
    passing: tuple[type[BaseException], ...] = ()


def library_host(device: torch.device) -> Host:
    """The library's own way, as the commands run it."""
    return Host(
        device,
        precision=partial(precision, device),
        attention=partial(torch_attention, device),
        load=lambda dtype: load_bundle(POCKET, device=device, dtype=dtype),
        free=partial(free_memory, device),
        output=Path(),
    )


def torch_attention(device: torch.device) -> tuple[str, str]:
    """The kernel that torch chooses for Lite's and Pro's attention on a device, and why."""
    config = PUBLISHED_LITE.generator
    dtype = precision(device, PUBLISHED_LITE.vae).generator
    q = torch.empty(1, config.num_heads, 64, config.head_dim, dtype=dtype, device=device)
    kernel = SDPBackend(torch._fused_sdp_choice(q, q, q)).name.lower().removesuffix("_attention")
    sizes = f"{config.num_heads} heads of {config.head_dim} in {torch_name(dtype)}"
    return f"torch's {kernel}", f"its choice for {sizes}"


def free_memory(device: torch.device) -> tuple[int, int] | None:
    """Bytes of memory that can be used on a device, and all that it has; None is unknown."""
    try:
        if device.type in ("cuda", "xpu"):
            return getattr(torch, device.type).mem_get_info(device)
        if device.type == "mps":
            whole = torch.mps.recommended_max_memory()
            return whole - torch.mps.driver_allocated_memory(), whole
    except (AttributeError, RuntimeError):  # torch before 2.5, of XPU 2.6; some Intel drivers
        return None
    return ram() if device.type == "cpu" else None


def ram() -> tuple[int, int] | None:
    """The same of main memory."""
    try:
        import psutil
    except ImportError:
        return None
    memory = psutil.virtual_memory()
    return memory.available, memory.total
