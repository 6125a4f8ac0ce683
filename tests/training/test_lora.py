"""LoRA: what it trains, and that its file, applied as ComfyUI does, gives the trained network."""

import pytest
import torch
from safetensors.torch import load_file

from flashhead.training.networks.initialisation import trainable
from flashhead.training.networks.lora import (
    LoRALinear,
    add_lora,
    lora_state,
    save_lora,
)

from .small import chunk, generator, gradients, rng


def wrapped(seed: int = 0, **options):
    """A generator with low-rank matrices that do something."""
    network = add_lora(generator(), 4, rng(seed), **options)
    for index, layer in enumerate(m for m in network.modules() if isinstance(m, LoRALinear)):
        torch.nn.init.normal_(layer.up, std=0.1, generator=rng(100 + index))
    return network


def velocity(network):
    batch = chunk()
    with torch.no_grad():
        return network(batch.latents, torch.tensor([500.0]), batch.context, batch.reference)


def test_it_starts_as_no_change():
    torch.testing.assert_close(velocity(add_lora(generator(), 4, rng())), velocity(generator()))


def test_the_strength_is_alpha_over_rank():
    plain, doubled = (wrapped(alpha=alpha).blocks[0].self_attn.q for alpha in (4.0, 8.0))
    x = torch.randn(1, plain.base.in_features)
    torch.testing.assert_close(doubled(x) - doubled.base(x), 2 * (plain(x) - plain.base(x)))


def test_only_the_low_rank_matrices_learn():
    network, batch = wrapped(), chunk()
    network(batch.latents, torch.tensor([500.0]), batch.context, batch.reference).sum().backward()
    learning = {name for name, p in network.named_parameters() if p.grad is not None}
    assert learning == {n for n in dict(network.named_parameters()) if n.endswith((".up", ".down"))}
    assert len(gradients(network)) == len(learning)


def test_the_targets_choose_layers():
    names = {name for name in lora_state(wrapped(targets=("cross_attn",)))}
    assert names == {
        f"diffusion_model.blocks.{block}.cross_attn.{layer}.{leaf}"
        for block in range(2)
        for layer in "qkvo"
        for leaf in ("lora_A.weight", "lora_B.weight", "alpha")
    }


@pytest.mark.parametrize("alpha", [None, 8.0])
def test_the_file_gives_the_trained_network(tmp_path, alpha):
    """As ComfyUI applies it: W + alpha / rank * B A, by the weight's own key."""
    network = wrapped(alpha=alpha)
    save_lora(network, tmp_path / "lora.safetensors", torch.float32)
    file = load_file(tmp_path / "lora.safetensors")
    patched = generator()
    weights = patched.state_dict()
    keys = {key.rsplit(".lora_A", 1)[0] for key in file if ".lora_A" in key}
    for key in keys:
        down, up = file[f"{key}.lora_A.weight"], file[f"{key}.lora_B.weight"]
        weight = weights[key.removeprefix("diffusion_model.") + ".weight"]
        weight += file[f"{key}.alpha"].item() / down.shape[0] * up @ down
    assert len(keys) == 2 * 10
    adapted = velocity(network)
    assert (adapted - velocity(generator())).abs().max() > 0.01
    torch.testing.assert_close(velocity(patched), adapted, atol=1e-5, rtol=1e-4)


def test_a_copy_to_train_shares_nothing(bundle):
    copy = trainable(bundle.generator)
    key = "blocks.0.self_attn.q.weight"
    before = bundle.generator.state_dict()[key].clone()
    with torch.no_grad():
        copy.state_dict()[key].add_(1)
    assert torch.equal(bundle.generator.state_dict()[key], before)
    assert all(p.requires_grad for p in copy.parameters())
    assert not any(p.requires_grad for p in bundle.generator.parameters())
    vae = trainable(bundle.vae)
    torch.testing.assert_close(vae.latents_mean, bundle.vae.latents_mean)
