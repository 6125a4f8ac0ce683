"""A VAE in tiles gives what the whole gives, and out of memory it goes on so."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from flashhead.errors import MemoryWarning
from flashhead.image.portrait import prepare_portrait
from flashhead.models.backend import Backend
from flashhead.models.config import LTXVAEConfig, WanVAEConfig
from flashhead.models.ltx_vae import LTXVAE
from flashhead.models.tiles import FrugalVAE
from flashhead.models.wan_vae import WanVAE
from flashhead.stream.loop import ChunkAudio, ChunkLoop
from flashhead.stream.settings import Settings

# As deep as the published ones and narrow, and others.
VAES = {
    "lite": LTXVAEConfig((4, 4, 8, 8), (4, 3, 3, 3, 4), (True, True, True, False), 8),
    "no change of width": LTXVAEConfig((4, 4), (2, 0, 1), (True, True), 8),
    "no change of size": LTXVAEConfig((4, 8), (1, 1, 1), (False, True), 8),
    "pro": WanVAEConfig(4, (4, 8, 8, 8), (False, True, True), 2),
    "shallow": WanVAEConfig(4, (4, 8, 8, 8), (True, False, True), 1),
}


def made(config):
    kind = LTXVAE if isinstance(config, LTXVAEConfig) else WanVAE
    rng, vae = torch.Generator().manual_seed(0), kind(config, Backend()).eval()
    for name, weight in vae.named_parameters():
        if weight.ndim > 1 and "gamma" not in name:
            weight.data.normal_(generator=rng).div_(weight[0].numel() ** 0.5)
    if kind is LTXVAE:
        vae.latents_mean.zero_()
        vae.latents_std.fill_(1)
    return vae.requires_grad_(False)


@pytest.mark.parametrize(
    ("name", "height", "width", "tiles"),
    [
        ("lite", 96, 256, 2),
        ("no change of width", 64, 160, 3),
        ("no change of size", 32, 64, 2),
        ("pro", 64, 112, 2),
        ("shallow", 48, 80, 3),
    ],
)
def test_tiles_give_what_the_whole_gives(name, height, width, tiles):
    vae, rng = made(VAES[name]), torch.Generator().manual_seed(1)
    t, h, w = vae.stride
    latents = torch.randn(1, vae.latent_channels, 2, height // h, width // w, generator=rng)
    video = vae.decode(latents)
    assert video.shape == (1, 3, 1 + t, height, width) and video.std() > 0.01
    assert (vae.decode(latents, tiles) - video).abs().max() < 2e-5 * video.abs().max()
    video = torch.rand(video.shape, generator=rng) * 2 - 1
    latents = vae.encode(video)
    assert (vae.encode(video, tiles) - latents).abs().max() < 2e-5 * latents.abs().max()


class Full:
    """A VAE on a device that has room for tiles alone."""

    def __init__(self, vae, error):
        self.vae, self.error, self.tried = vae, error, []
        self.latent_channels, self.stride, self.dtype = vae.latent_channels, vae.stride, vae.dtype
        self.normalize, self.denormalize = vae.normalize, vae.denormalize

    def decode(self, latents, tiles=1):
        return self.code(self.vae.decode, latents, tiles)

    def encode(self, video, tiles=1):
        return self.code(self.vae.encode, video, tiles)

    def code(self, code, x, tiles):
        self.tried.append((code.__name__, x.shape[2], tiles))
        if tiles == 1:
            raise self.error
        return code(x, tiles)


CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
ERRORS = [
    CUDA,
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB, other allocations: 2 GB)"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError(
        "Native API failed. Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"
    ),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("Invalid buffer size: 9.12 GiB"),
]


def two_chunks(bundle, portrait):
    loop = ChunkLoop(bundle, Settings(size=(64, 64), steps=1, cache_seconds=1.32))
    state, silence = loop.start(portrait), torch.zeros(loop.geometry.new_samples)
    first, state = loop.step(ChunkAudio(silence), state)
    second, state = loop.step(ChunkAudio(silence), state)
    return torch.cat([first, second])


def test_a_run_goes_on_in_tiles_and_says_so_once(bundle, portrait):
    picture = prepare_portrait(portrait, (64, 64))
    full = Full(bundle.vae, CUDA)
    with pytest.warns(MemoryWarning, match="goes on in tiles") as said:
        tiled = two_chunks(replace(bundle, vae=full), picture)
    assert len(said) == 1
    # The second chunk does not try what did not fit in the first.
    portraits = [("encode", 33, 1), ("encode", 33, 2)]
    chunk = [("decode", 5, 1), ("decode", 5, 2), ("encode", 9, 1), ("encode", 9, 2)]
    assert full.tried == portraits + chunk + [("decode", 5, 2), ("encode", 9, 2)]
    assert (tiled - two_chunks(bundle, picture)).abs().max() < 1e-4


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "mps", "cpu", "xpu", "cudnn", "mps-buffer"])
def test_every_devices_error(error, bundle):
    latents, said = torch.zeros(1, 8, 1, 2, 2), []
    vae = FrugalVAE(Full(bundle.vae, error), said.append)
    assert torch.allclose(vae.decode(latents), bundle.vae.decode(latents), atol=1e-5)
    assert len(said) == 1


def test_what_does_not_fit_in_tiles_either_is_an_error(bundle):
    def decode(latents, tiles):
        raise CUDA

    full, said = Full(bundle.vae, CUDA), []
    full.vae = SimpleNamespace(decode=decode)
    with pytest.raises(torch.OutOfMemoryError):
        FrugalVAE(full, said.append).decode(torch.zeros(1, 8, 5, 2, 2))
    assert [tiles for *_, tiles in full.tried] == [1, 2] and len(said) == 1


def test_other_errors_stay_what_they_are(bundle):
    wrong, said = RuntimeError("mat1 and mat2 shapes cannot be multiplied"), []
    full = Full(bundle.vae, wrong)
    with pytest.raises(RuntimeError, match="mat1"):
        FrugalVAE(full, said.append).decode(torch.zeros(1, 8, 1, 2, 2))
    assert not said and len(full.tried) == 1
