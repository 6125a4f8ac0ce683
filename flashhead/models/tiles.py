"""A VAE where the memory for a whole picture is short: in tiles, with the same numbers.

The finest layers take most of the memory, and see a few pixels around each. So they alone run tile
by tile, each with as much around it as they see, which is cut off again; no seam is left.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import MemoryWarning
from .vae import VAE

TILES = 2
"""A side, where the whole does not fit."""
_OUT_OF_MEMORY = (
    *("out of memory", "not enough memory", "can't allocate memory"),
    *("out_of_device_memory", "out_of_host_memory"),  # Intel's driver
    *("cudnn_status_alloc_failed", "cublas_status_alloc_failed"),
    "invalid buffer size",  # MPS: larger than one tensor may be
)


def in_tiles(
    layers: Callable[[Tensor], Tensor],
    x: Tensor,
    tiles: int,
    reach: int,
    *,
    shrink: int = 1,
    grow: int = 1,
) -> Tensor:
    """`layers` of x (B, C, T, H, W), `tiles` by `tiles` pieces of it.

    reach: rows and columns of x around a place that its result depends on. The result has
    H * grow / shrink rows, and columns likewise.
    """
    if tiles == 1:
        return layers(x)
    reach += -reach % shrink
    result = None
    for rows in _pieces(x.shape[3], tiles, shrink):
        for columns in _pieces(x.shape[4], tiles, shrink):
            seen = [
                slice(max(0, piece.start - reach), min(piece.stop + reach, side))
                for piece, side in zip((rows, columns), x.shape[3:], strict=True)
            ]
            part = layers(x[..., seen[0], seen[1]])
            down, across = (
                slice((p.start - s.start) * grow // shrink, (p.stop - s.start) * grow // shrink)
                for p, s in zip((rows, columns), seen, strict=True)
            )
            if result is None:
                height, width = (side * grow // shrink for side in x.shape[3:])
                result = part.new_empty(*part.shape[:3], height, width)
            down_to, across_to = (
                slice(p.start * grow // shrink, p.stop * grow // shrink) for p in (rows, columns)
            )
            result[..., down_to, across_to] = part[..., down, across]
    assert result is not None
    return result


def _pieces(side: int, tiles: int, multiple: int) -> list[slice]:
    edges = [round(side / multiple * i / tiles) * multiple for i in range(tiles + 1)]
    return [slice(a, b) for a, b in zip(edges, edges[1:], strict=False) if a < b]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the computer itself, ran out of memory, whatever torch raises for it."""
    told = str(error).lower()
    return isinstance(error, torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(kind in told for kind in _OUT_OF_MEMORY)
    )


class FrugalVAE:
    """A VAE that goes on in tiles where the whole picture does not fit into memory.

    For one run: it remembers what did not fit, and says so once, by `say` or as a `MemoryWarning`.
    """

    def __init__(self, vae: VAE, say: Callable[[str], None] | None = None):
        self._vae, self._say = vae, say or _warn
        self._too_large: set[tuple[int, ...]] = set()
        self.latent_channels, self.stride, self.dtype = vae.latent_channels, vae.stride, vae.dtype
        self.normalize, self.denormalize = vae.normalize, vae.denormalize

    def decode(self, latents: Tensor, tiles: int = 1) -> Tensor:
        return self._code(self._vae.decode, latents, tiles)

    def encode(self, video: Tensor, tiles: int = 1) -> Tensor:
        return self._code(self._vae.encode, video, tiles)

    def _code(self, code: Callable[..., Tensor], x: Tensor, tiles: int) -> Tensor:
        key = tuple(x.shape)
        if tiles == 1 and key not in self._too_large:
            try:
                return code(x)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            _free()  # not before: the error held what the network had made
            if not self._too_large:
                self._say(
                    "The VAE ran out of memory, and goes on in tiles, which is slower. A smaller "
                    "size avoids it."
                )
            self._too_large.add(key)
        return code(x, max(tiles, TILES))


def _free() -> None:
    """Give back what torch keeps for itself on a device, in pieces that were too small."""
    torch.cuda.empty_cache()
    torch.xpu.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _warn(text: str) -> None:
    warnings.warn(text, MemoryWarning, stacklevel=2)
