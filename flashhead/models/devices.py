"""What each network computes in on a device, and why: the one rule, of library, commands and nodes.

What torch says of bfloat16 on a card counts emulation, which is slower than float32; so the card
itself is asked.
"""

from dataclasses import dataclass

import torch

from ..dtypes import torch_name
from .config import LTXVAEConfig, VAEConfig

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
AUDIO_DTYPE = FP32
"""Of the audio encoder, on every device."""

_AMD_BF16 = ("gfx908", "gfx90a", "gfx94", "gfx95", "gfx11", "gfx12")
# Turing without tensor cores: their float16 convolutions give NaN.
_GTX_16 = ("GTX 16", "T500", "T550", "T600", "MX450", "MX550", "T1000", "T1200", "T2000")


@dataclass(frozen=True)
class Precision:
    """What each network computes in, and a short reason for each.

    notes: sentences on where that is not what was asked for, or is slow.
    """

    generator: torch.dtype
    vae: torch.dtype
    audio_encoder: torch.dtype
    reasons: dict[str, str]
    notes: tuple[str, ...] = ()


def default_device() -> torch.device:
    """The first that is there: cuda (ROCm too), xpu, mps, cpu."""
    kinds = {"cuda": torch.cuda, "xpu": torch.xpu, "mps": torch.backends.mps}
    there = (name for name, kind in kinds.items() if kind.is_available())
    return torch.device(next(there, "cpu"))


def half_dtypes(device: torch.device) -> tuple[tuple[torch.dtype, ...], str]:
    """The 16-bit dtypes that a device computes in at full speed, the best first, and why."""
    kind = device.type
    if kind == "cpu":
        return (), "a CPU is fastest in float32"
    if kind == "cuda" and torch.version.hip:
        arch = torch.cuda.get_device_properties(device).gcnArchName.partition(":")[0]
        if arch.startswith(_AMD_BF16):
            return (BF16, FP16), f"{arch} has bfloat16"
        return (FP16,), f"{arch} has no bfloat16"
    if kind == "cuda":
        card = torch.cuda.get_device_properties(device)
        capability = f"compute capability {card.major}.{card.minor}"
        if card.major >= 8:
            return (BF16, FP16), f"{capability} has bfloat16"
        if card.major < 7:
            return (), f"{capability} has no fast 16-bit arithmetic"
        if any(name in card.name for name in _GTX_16):
            return (), "GTX 16 cards give NaN in float16"
        return (FP16,), f"{capability} has no bfloat16 of its own"
    if kind == "mps":
        if torch.backends.mps.is_macos_or_newer(14, 0):
            return (BF16, FP16), "macOS 14 and newer have bfloat16"
        return (FP16,), "macOS before 14 has no bfloat16"
    if kind == "privateuseone":
        return (FP16,), "DirectML has no bfloat16"
    ask = getattr(getattr(torch, kind, None), "is_bf16_supported", None)  # xpu, npu, mlu
    if ask is not None:
        try:
            own = ask(including_emulation=False)
        except TypeError:  # not all of them, nor all of their releases, tell these apart
            own = ask()
        if own:
            return (BF16, FP16), f"torch says that {kind} has bfloat16"
        return (FP16,), f"torch says that {kind} has no bfloat16"
    return (), f"nothing is known of 16 bits on {kind}"


def vae_dtypes(vae: VAEConfig | None) -> tuple[torch.dtype, ...]:
    """What a VAE may compute in on any device; None is a host's Wan VAE."""
    # LTX's may overflow in float16; ComfyUI does not run it so either.
    return (BF16, FP32) if isinstance(vae, LTXVAEConfig) else (BF16, FP16, FP32)


def generator_choices(device: torch.device) -> list[torch.dtype]:
    """What a generator computes in on a device, the best first."""
    return [*half_dtypes(device)[0], FP32]


def vae_choices(device: torch.device, vae: VAEConfig | None) -> list[torch.dtype]:
    """What a VAE computes in on a device, the best first."""
    return [dtype for dtype in generator_choices(device) if dtype in vae_dtypes(vae)]


def wider(dtype: torch.dtype, device: torch.device) -> list[torch.dtype]:
    """What may hold numbers on a device that overflow in `dtype`, the best first."""
    order = [FP16, BF16, FP32]
    return [d for d in generator_choices(device) if order.index(d) > order.index(dtype)]


def precision(
    device: torch.device, vae: VAEConfig | None, asked: torch.dtype | None = None
) -> Precision:
    """What a checkpoint with such a VAE computes in on a device; `asked`: for generator and VAE."""
    reason, legal = half_dtypes(device)[1], vae_dtypes(vae)
    generator, decoder = generator_choices(device)[0], vae_choices(device, vae)[0]
    why, vae_why, notes = reason, reason, []
    too_narrow = "LTX's VAE may overflow in float16"
    if asked is None and decoder != generator:
        vae_why = f"{too_narrow}, and {reason}"
    elif asked is not None:
        generator, why, vae_why = asked, "asked for", "asked for"
        if asked in legal:
            decoder = asked
        else:
            vae_why = too_narrow
            notes.append(f"{too_narrow}, so it computes in {torch_name(decoder)}.")
        if asked not in generator_choices(device):
            notes.append(f"{torch_name(asked)} is slow here: {reason}.")
    reasons = {"generator": why, "vae": vae_why, "audio_encoder": "always float32"}
    return Precision(generator, decoder, AUDIO_DTYPE, reasons, tuple(notes))
