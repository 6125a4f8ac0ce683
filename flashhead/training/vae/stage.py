"""An LTX VAE of any size in training: a stage that the training loop drives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...models.backend import build
from ...models.ltx_vae import LTXVAE
from ..data.clip_cache import ClipCache
from ..networks.initialisation import new_readout
from ..optimisation.loop import Schedule
from ..optimisation.muon import Muon, branch_weights
from ..optimisation.updates import Losses, mixed_precision
from .losses import (
    LatentProbe,
    detail_loss,
    kl_divergence,
    probe_loss,
    reconstruction_loss,
    region_weight,
    temporal_loss,
)
from .network import decode_raw, encode_distribution
from .video_batch import VideoBatch, draw_videos


@dataclass(frozen=True)
class VAESettings:
    """batch: clips an update, frames of each. accumulate: batches to an update.

    encoder: whether it is trained too; one that a linear start has fitted can stay, its latents
    then being final while the decoder still learns. noise: largest deviation of what is added to
    the latents of an encoder that stays (a trained one has its posterior's); each clip draws its
    own, so that the decoder learns to look past a generator's errors, which flicker, and to
    trust latents without any.

    learning_rate: of Adam (after a linear start 1e-4 at most); muon_rate: of Muon for the residual
    branches, 0 for Adam alone. average: decay of the averaged weights per update. precision:
    "float32" or "bfloat16". The weights: see `vae_losses`; square: of the squared difference
    beside the absolute one.
    """

    encoder: bool = True
    noise: float = 0.4

    batch: int = 2
    frames: int = 17
    accumulate: int = 1
    learning_rate: float = 2e-3
    muon_rate: float = 4e-3
    clip: float = 1.0
    average: float = 0.998
    precision: str = "float32"
    mouth_weight: float = 12.0
    eyes_weight: float = 6.0
    square: float = 4.0
    temporal: float = 0.5
    detail: float = 0.5
    kl: float = 1e-5
    probe: float = 1.0
    log_variance: float = -6.0
    schedule: Schedule = field(default_factory=lambda: Schedule(warmup=30, decay=0.5))


@torch.no_grad()
def fit_statistics(
    vae: LTXVAE, clips: ClipCache, count: int, frames: int, rng: torch.Generator
) -> None:
    """Set the latents' mean and deviation, a channel each, to those of random parts of clips.

    After training: the generator wants latents of unit size.
    """
    device = next(vae.parameters()).device
    vae.latents_mean.zero_()
    vae.latents_std.fill_(1)
    latents = torch.cat(
        [
            vae.encode(draw_videos(clips, 1, frames, rng, device).video).transpose(0, 1).flatten(1)
            for _ in range(count)
        ],
        dim=1,
    ).double()
    vae.latents_mean.copy_(latents.mean(dim=1))
    vae.latents_std.copy_(latents.std(dim=1).clamp_min(1e-6))


class VAEStage:
    """Makes one update at a time, of `updates` in all; see `loop.Stage`."""

    def __init__(self, vae: LTXVAE, clips: ClipCache, settings: VAESettings, updates: int):
        self.vae, self.clips, self.settings, self.updates = vae, clips, settings, updates
        size = clips.arrays["video"].shape[2:4]
        device = next(vae.parameters()).device
        latent_size = (size[0] // vae.stride[1], size[1] // vae.stride[2])
        self.probe = new_readout(
            lambda: LatentProbe(vae.latent_channels, vae.stride[0], latent_size),
            torch.Generator().manual_seed(0),
        ).to(device)
        self.probe.start()
        self.modules = nn.ModuleDict({"vae": vae, "probe": self.probe})
        if not settings.encoder:
            vae.encoder.requires_grad_(False)
            self.probe.requires_grad_(False)
        inner = branch_weights(vae) if settings.muon_rate else []
        own = {id(parameter) for parameter in inner}
        rest = [p for p in self.modules.parameters() if p.requires_grad and id(p) not in own]
        self.rates = [settings.learning_rate]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
        ]
        if inner:
            self.rates.append(settings.muon_rate)
            self.optimizers.append(Muon(inner, settings.muon_rate))
        self.averaged = {k: p.detach().clone() for k, p in vae.named_parameters()}
        self.count = 0

    def losses(self, batch: VideoBatch, noise: Tensor | None, rng: torch.Generator) -> Losses:
        """Of one batch, with gradients; `noise` of the latents, by default drawn."""
        settings = self.settings
        with torch.set_grad_enabled(settings.encoder):
            mean, log_variance = encode_distribution(self.vae, batch.video)
        if noise is None:
            noise = torch.randn(mean.shape, generator=rng).to(mean)
        if settings.encoder:
            deviation = (0.5 * log_variance).exp()
        else:
            share = torch.rand(len(mean), 1, 1, 1, 1, generator=rng)
            deviation = (settings.noise * share).to(mean)
        made = decode_raw(self.vae, mean + deviation * noise).float()
        weight = region_weight(
            batch.mouth,
            batch.eyes,
            batch.face,
            mouth_weight=settings.mouth_weight,
            eyes_weight=settings.eyes_weight,
        )
        parts = {
            "pixels": reconstruction_loss(made, batch.video, weight, settings.square),
            "temporal": temporal_loss(made, batch.video, weight),
            "detail": detail_loss(made, batch.video, weight),
        }
        total = (
            parts["pixels"]
            + settings.temporal * parts["temporal"]
            + settings.detail * parts["detail"]
        )
        if settings.encoder:
            parts["kl"] = kl_divergence(mean, log_variance)
            parts["probe"] = probe_loss(self.probe(mean), batch.openness, batch.width)
            total = total + settings.kl * parts["kl"] + settings.probe * parts["probe"]
        parts["mse"] = (made.detach() - batch.video).square().mean()
        return {"loss": total, **parts}

    def step(self, rng: torch.Generator) -> dict[str, float]:
        """One update; losses by name.

        Raises:
            FloatingPointError: the gradient is not finite; the weights are as they were.
        """
        settings = self.settings
        device = next(self.vae.parameters()).device
        totals: dict[str, float] = {}
        for _ in range(settings.accumulate):
            batch = draw_videos(self.clips, settings.batch, settings.frames, rng, device)
            with mixed_precision(device, settings.precision):
                parts = self.losses(batch, None, rng)
            (parts["loss"] / settings.accumulate).backward()
            for name, value in parts.items():
                totals[name] = totals.get(name, 0.0) + float(value.detach()) / settings.accumulate
        norm = nn.utils.clip_grad_norm_(self.modules.parameters(), settings.clip)
        if not bool(norm.isfinite()):
            self.modules.zero_grad()
            raise FloatingPointError(f"The gradient became {float(norm)} at update {self.count}.")
        share = settings.schedule.share(self.count, self.updates)
        for optimizer, full in zip(self.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = full * share
            optimizer.step()
        self.modules.zero_grad()
        self.count += 1
        self._average()
        return {**totals, "gradient": float(norm)}

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.settings.average, (1 + self.count) / (10 + self.count))
        for key, parameter in self.vae.named_parameters():
            self.averaged[key].lerp_(parameter, 1 - decay)

    def averaged_vae(self) -> LTXVAE:
        """A copy with the averaged weights, for inference."""
        copy = build(lambda: LTXVAE(self.vae.config, self.vae.backend))
        state = {k: v.detach().clone() for k, v in self.vae.state_dict().items()}
        state.update({k: v.clone() for k, v in self.averaged.items()})
        copy.load_state_dict(state, assign=True)
        return copy.eval().requires_grad_(False)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs, the weights included."""
        return {
            "modules": self.modules.state_dict(),
            "averaged": self.averaged,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "count": self.count,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same sizes and optimizers."""
        self.modules.load_state_dict(state["modules"])
        for key, mean in self.averaged.items():
            mean.copy_(state["averaged"][key])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.count = state["count"]
