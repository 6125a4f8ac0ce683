"""Small networks and chunks for the tests of training."""

import torch

from flashhead.geometry import CHUNK_FRAMES
from flashhead.models.generator import Generator
from flashhead.testing import MINIATURE, MINIATURE_PRO
from flashhead.training.data.chunk_batch import ChunkBatch
from flashhead.training.networks.initialisation import new_audio_encoder, new_generator

CONFIG = MINIATURE.generator


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def generator(seed: int = 0, *, pro: bool = False) -> Generator:
    """One whose head is not zero, so that its output depends on everything."""
    config = MINIATURE_PRO.generator if pro else CONFIG
    made = new_generator(config, rng(seed))
    torch.nn.init.normal_(made.head.head.weight, std=0.1, generator=rng(seed + 1))
    return made


def audio_encoder(seed: int = 0):
    return new_audio_encoder(MINIATURE.audio_encoder, rng(seed))


def chunk(batch: int = 1, seed: int = 0, size: int = 2) -> ChunkBatch:
    """Random ground truth at `size` x `size` latents."""
    draw = rng(1000 + seed)
    shape = (batch, CONFIG.out_dim, 5, size, size)

    def normal(*axes: int) -> torch.Tensor:
        return torch.randn(*axes, generator=draw)

    return ChunkBatch(
        latents=normal(*shape),
        reference=normal(*shape),
        context=normal(batch, CHUNK_FRAMES, CONFIG.audio_window, 1, CONFIG.audio_width),
        face=torch.rand(batch, 1, *shape[2:], generator=draw),
        mouth=torch.rand(batch, CHUNK_FRAMES, 2, generator=draw),
    )


def gradients(module: torch.nn.Module) -> list[torch.Tensor]:
    """What was accumulated so far."""
    return [p.grad for p in module.parameters() if p.grad is not None and bool(p.grad.any())]


class Calls:
    """Records a generator's calls: (x, timestep, context, reference), and whether with grad."""

    def __init__(self, network: torch.nn.Module):
        self.inputs: list[tuple[torch.Tensor, ...]] = []
        self.with_grad: list[bool] = []
        network.register_forward_pre_hook(self._record)

    def _record(self, _network, inputs):
        self.inputs.append(tuple(x.detach().clone() for x in inputs))
        self.with_grad.append(torch.is_grad_enabled())
