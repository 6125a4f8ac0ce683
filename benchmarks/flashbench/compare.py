"""How far our outputs are from the reference's, on the same weights, inputs and noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flashhead import LiveStream
from flashhead.image.color import match_color
from flashhead.stream.loop import ChunkAudio
from flashhead.stream.sampling import draw_noise, timesteps

if TYPE_CHECKING:
    from .reference import Reference

Differences = dict[str, dict[str, float]]


def _difference(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    gap = (ours.double() - theirs.to(ours.device).double()).abs()
    return {"max_abs": gap.max().item(), "mean_abs": gap.mean().item()}


@torch.no_grad()
def compare(live: LiveStream, reference: Reference, samples: Tensor) -> Differences:
    """By stage and for the whole first chunk (its frames are in [0, 1], before uint8).

    Both get the same input at every stage, so a difference is that stage's own. Both streams
    stand where they stood afterwards.
    """
    bundle, state, plan = live.bundle, live.state, live.loop.sampler.plan
    generator, vae, latents = bundle.generator, bundle.vae, state.portrait.latents
    context, after = live.loop.sampler.encode_audio(ChunkAudio(samples), state)
    noise, _ = draw_noise(state.rng, plan.draws, tuple(latents.shape[1:]))
    x = noise[0].to(latents.device, bundle.dtype)
    reference_latents, context_in_dtype = latents.to(bundle.dtype), context.to(bundle.dtype)

    window = after.audio.samples[0]
    found = {"audio": _difference(context, reference.encode_audio(window))}
    first = timesteps(plan.steps, live.settings.shift)[:1].to(latents.device)
    found["step"] = _difference(
        generator.denoise(
            x, reference_latents, plan.time[:1], generator.embed_audio(context), plan.rotary
        ),
        reference.velocity(x, reference_latents, first, context_in_dtype),
    )
    video = vae.decode(latents)
    found["decode"] = _difference(video, reference.decode(reference_latents))
    found["colour"] = _difference(
        match_color(video, state.portrait.color, live.settings.color_match),
        reference.match_color(video),
    )
    tail = video[:, :, -live.geometry.motion_frames :].contiguous()
    found["re-encode"] = _difference(vae.encode(tail), reference.encode(tail))

    ours = live.advance(samples)
    live.state = state
    found["chunk"] = _difference(ours, reference.frames(window, noise))
    reference.restart()
    return found
