"""Numbers that are not finite: which network made them, in which dtype, and what to try."""

import torch
from torch import Tensor

from ..dtypes import COMPUTE_DTYPES, torch_name
from ..errors import NonFiniteError
from ..models.devices import wider

# How its dtype is changed in ComfyUI; on the command line it is --dtype for both.
_IN_COMFYUI = {
    "generator": "weight_dtype {short} in FlashHead Load Checkpoint",
    "VAE": "starting ComfyUI with --{short}-vae",
}


def all_finite(tensor: Tensor) -> Tensor:
    """Whether all numbers are, on the device: to ask for the value is to wait for it."""
    return torch.isfinite(tensor).all()


def non_finite(what: str, network: str, dtype: torch.dtype, device: torch.device) -> NonFiniteError:
    """The error that `what` is not finite, as a network ("generator", "VAE decoder", "VAE encoder",
    "audio encoder") computed it in a dtype on a device."""
    better = wider(dtype, device)
    advice = "the weights seem damaged: download them again"
    how = _IN_COMFYUI.get(network.split()[0])
    if better and how:
        short = next(name for name, wide in COMPUTE_DTYPES.items() if wide == better[-1])
        advice = f"try {' or '.join(map(torch_name, better))}, by --dtype {short} or "
        advice += how.format(short=short)
    return NonFiniteError(
        f"{what} came out of the {network} as NaN or infinity in {torch_name(dtype)}; {advice}."
    )
