"""Recomputed activations and offloaded weights change nothing but memory."""

import torch

from flashhead.training.networks.activation_memory import checkpoint_blocks, offload_blocks
from flashhead.training.networks.lora import LoRALinear, add_lora

from .small import chunk, generator, rng


def adapted():
    network = add_lora(generator(), 4, rng())
    for layer in network.modules():
        if isinstance(layer, LoRALinear):
            torch.nn.init.normal_(layer.up, std=0.1, generator=rng(1))
    return network


def backward(network):
    batch = chunk()
    out = network(batch.latents, torch.tensor([500.0]), batch.context, batch.reference)
    out.square().sum().backward()
    return out.detach(), {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


def test_recomputing_gives_the_same_gradients():
    expected, gradients = backward(generator())
    network = generator()
    runs = []
    network.blocks[0].ffn.register_forward_hook(lambda *_: runs.append(torch.is_grad_enabled()))
    out, recomputed = backward(checkpoint_blocks(network))
    assert len(runs) == 2  # once forward, once more for the backward pass
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(recomputed, gradients)
    assert set(network.state_dict()) == set(generator().state_dict())
    with torch.no_grad():
        network(chunk().latents, torch.tensor([500.0]), chunk().context, chunk().reference)
    assert len(runs) == 3


def test_offloaded_weights_give_the_same_gradients():
    expected, gradients = backward(adapted())
    out, offloaded = backward(offload_blocks(adapted()))
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(offloaded, gradients)
    assert gradients and all(n.endswith((".up", ".down")) for n in gradients)


def test_frozen_weights_really_leave():
    """The meta device has no numbers: a forward pass is possible only with weights brought back."""
    network = offload_blocks(adapted(), home="meta")
    block = network.blocks[0]
    assert block.self_attn.q.base.weight.is_meta and block.ffn[0].base.weight.is_meta
    # What `embed_audio` reads outside the block, and what learns, stays.
    assert not block.cross_attn.k.base.weight.is_meta
    assert not block.self_attn.q.down.is_meta
    assert network.embed_audio(chunk().context).keys_values[0][0].isfinite().all()
