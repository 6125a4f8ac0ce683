"""What runs on devices that are not here: no float64 where some have none, and convolutions as
cuDNN takes them."""

from dataclasses import replace

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flashhead.checkpoint.loading import open_checkpoint
from flashhead.models.backend import Backend
from flashhead.models.bundle import Bundle
from flashhead.models.config import LTXVAEConfig
from flashhead.models.generator import timestep_embedding
from flashhead.models.ltx_vae import LTXVAE
from flashhead.stream import loop
from flashhead.stream import state as stream_state
from flashhead.stream.settings import Settings

META = torch.device("meta")
WIDE = {torch.float64, torch.complex64, torch.complex128}


class Poorer(TorchDispatchMode):
    """Fails where a device other than the CPU has to do with a dtype that Arc, DirectML and MPS
    lack, be it in a copy to the CPU, or where it copies while the CPU goes on."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, result))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        if any(tensor.device.type != "cpu" for tensor in tensors):
            assert WIDE.isdisjoint(tensor.dtype for tensor in tensors), function
            assert not (kwargs or {}).get("non_blocking"), function
        return result


def test_timesteps_of_a_device_are_widened_on_the_cpu():
    with FakeTensorMode(), Poorer():
        assert timestep_embedding(torch.ones(1, device="mps"), 8).dtype == torch.float32


@pytest.mark.parametrize("variant", ["lite", "pro"])
def test_no_float64_leaves_the_cpu(variant, checkpoint, monkeypatch):
    """A whole run but for its numbers, on the meta device."""
    for module in (loop, stream_state):
        monkeypatch.setattr(module, "all_finite", lambda _: torch.tensor(True))
    opened = open_checkpoint(checkpoint, variant)
    backend = Backend(device=META)
    networks = [part.load(backend, device=META) for part in opened.parts.values()]
    bundle = Bundle(variant, *networks)
    settings = Settings(size=(32, 32), steps=1, guidance=3.0, cache_seconds=1.32, seam_fade=4)
    with Poorer():
        run = loop.ChunkLoop(bundle, settings)
        state = replace(run.start(torch.zeros(3, 32, 32)), shown=torch.zeros(1, 32, 32, 3))
        frames, _ = run.step(loop.ChunkAudio(torch.zeros(10_000)), state.to(META))
    assert frames.device == META and frames.shape[2:] == (32, 32, 3)


NARROW = LTXVAEConfig((8, 16), (1, 1, 1), (True, False), 8)
BYPASSED = {
    # torch, cuDNN, ROCm: whether it keeps 16 bits from cuDNN
    ("2.9.1+cu128", 91_002, None): True,
    ("2.10.0+cu128", 91_002, None): True,
    ("2.9.0+cu130", 91_600, None): True,
    ("2.9.1+cu130", 91_501, None): False,
    ("2.6.0+cu126", 90_501, None): False,
    ("2.9.0+rocm6.4", 3_004_000, "6.4"): False,
}


@pytest.mark.parametrize("found", BYPASSED, ids=lambda found: found[0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_ltx_convolutions_go_to_cudnn(dtype, found, monkeypatch):
    """torch looks whether the channels of input or weight are last in memory."""
    name, cudnn, rocm = found
    monkeypatch.setattr(torch, "__version__", name)
    monkeypatch.setattr(torch.version, "hip", rocm)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: cudnn)
    given = []

    def look(conv, inputs):
        given.append(inputs[0].is_contiguous(memory_format=torch.channels_last_3d))

    torch.set_default_dtype(dtype)
    try:
        with FakeTensorMode(), torch.device("cuda"), torch.no_grad():
            vae = LTXVAE(NARROW, Backend(dtype=dtype, device=torch.device("cuda")))
            vae.latents_mean, vae.latents_std = torch.empty(8), torch.empty(8)
            for layer in vae.modules():
                if isinstance(layer, torch.nn.Conv3d):
                    layer.register_forward_pre_hook(look)
            video = vae.decode(torch.empty(1, 8, 3, 2, 2))
            assert vae.encode(video.contiguous()).shape == (1, 8, 3, 2, 2)
    finally:
        torch.set_default_dtype(torch.float32)
    needed = BYPASSED[found] and dtype == torch.bfloat16
    assert len(given) > 10 and (all if needed else any)(given) == needed


def test_wan_convolutions_go_to_cudnn(bundles):
    layers = [m for m in bundles["pro"].vae.modules() if isinstance(m, torch.nn.Conv3d)]
    formats = {m.weight.is_contiguous(memory_format=torch.channels_last_3d) for m in layers}
    assert formats == {True}
