"""How far our outputs are from the reference's, on the same weights, inputs and noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flashhead import LiveStream
from flashhead.stream.loop import hear_chunk, match_color
from flashhead.stream.sampling import SamplingPlan, draw_noise
from flashhead.stream.schedule import timesteps

if TYPE_CHECKING:
    from .reference import Reference

Differences = dict[str, dict[str, float]]


def _difference(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    gap = (ours.double() - theirs.to(ours.device).double()).abs()
    return {"max_abs": gap.max().item(), "mean_abs": gap.mean().item()}


@torch.no_grad()
def compare(
    live: LiveStream, plan: SamplingPlan, reference: Reference, samples: Tensor
) -> Differences:
    """By stage and for the whole first chunk (its frames are in [0, 1], before uint8).

    Both get the same input at every stage, so a difference is that stage's own. Both streams
    stand where they stood afterwards.
    """
    bundle, state = live.bundle, live.state
    generator, vae, geometry = bundle.generator, bundle.vae, live.geometry
    latents, motion = state.portrait.latents, geometry.motion_frames
    context, heard = hear_chunk(bundle.audio_encoder, geometry, samples, state)
    noise, _ = draw_noise(state.rng, plan.draws, tuple(latents.shape[1:]))
    x = noise[0].to(latents.device, bundle.dtype)
    reference_latents, windows_dtype = latents.to(bundle.dtype), context.to(bundle.dtype)

    window = heard.audio.samples[0]
    found = {"audio": _difference(context, reference.hear(window))}
    first = timesteps(plan.steps, live.settings.shift)[:1].to(latents.device)
    found["step"] = _difference(
        generator.denoise(
            x, reference_latents, plan.time[:1], generator.embed_audio(context), plan.rotary
        ),
        reference.velocity(x, reference_latents, first, windows_dtype),
    )
    video = vae.decode(latents)
    found["decode"] = _difference(video, reference.decode(reference_latents))
    found["colour"] = _difference(
        match_color(video, state.portrait.color, live.settings.color_match),
        reference.match_color(video),
    )
    tail = video[:, :, -motion:].contiguous()
    found["re-encode"] = _difference(vae.encode(tail), reference.encode(tail))

    ours = live.advance(samples)
    live.state = state
    found["chunk"] = _difference(ours, reference.frames(window, noise))
    reference.restart()
    return found
