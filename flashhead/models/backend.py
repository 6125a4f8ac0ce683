"""What the networks are built from, so that another host can drive weights and attention.

By default plain torch. The ComfyUI nodes hand in ComfyUI's layers, attention and casting, and with
them its weight dtypes, offload and LoRA.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

Module = TypeVar("Module", bound=nn.Module)


def sdpa(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Softmax attention on (B, L, heads * head_dim) tensors, by torch's fused kernels."""
    q, k, v = (rearrange(x, "b l (n d) -> b n l d", n=heads) for x in (q, k, v))
    out = functional.scaled_dot_product_attention(q, k, v)
    return rearrange(out, "b n l d -> b l (n d)")


def convolved_frames(*frames: Tensor) -> Tensor:
    """Frames (B, C, T, H, W) one after the other, as a 3-D convolution takes them fast.

    torch keeps 16-bit tensors from cuDNN 9.8 to 9.14 (torch 2.9.0 from any after), which takes some
    three times the memory and several times as long; but not those with the channels last in
    memory, which these cuDNN get right.
    """
    joined = torch.cat(frames, dim=2)
    if joined.is_cuda and joined.dtype.itemsize == 2 and _bypasses_cudnn():
        return joined.contiguous(memory_format=torch.channels_last_3d)
    return joined


def _bypasses_cudnn() -> bool:
    version = 0 if torch.version.hip else torch.backends.cudnn.version() or 0
    return version >= 90_800 and (version < 91_500 or torch.__version__.startswith("2.9.0"))


def cast(parameter: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A raw parameter in the dtype and on the device that the network computes in."""
    return parameter.to(device=device, dtype=dtype)


@dataclass(frozen=True)
class Backend:
    """How a network is built and where it computes.

    operations: layers, a namespace like `torch.nn`. attention: a function like `sdpa`. cast: makes
    a raw parameter (one that belongs to no layer) ready for use. dtype, device: what inputs are
    converted to; device None leaves them where they are.
    """

    operations: Any = torch.nn
    attention: Callable[..., Tensor] = sdpa
    cast: Callable[[Tensor, torch.dtype, torch.device], Tensor] = cast
    dtype: torch.dtype = torch.float32
    device: torch.device | None = None

    def to(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """An input on the backend's device, in its dtype or the one given."""
        return x.to(device=self.device or x.device, dtype=dtype or self.dtype)


TORCH = Backend()


def named(**layers: nn.Module) -> nn.Sequential:
    """Layers one after the other, under the names that their weights have in files."""
    return nn.Sequential(OrderedDict(layers))


def build(make: Callable[[], Module]) -> Module:
    """Make a network on the meta device, without memory for its weights; frozen, in eval mode."""
    with torch.device("meta"):
        return make().eval().requires_grad_(False)
