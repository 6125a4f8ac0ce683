"""Training of an LTX VAE of any size, as a stage that the training loop drives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...models.backend import build
from ...models.ltx_vae import LTXVAE
from ..data.clip_dataset import ClipDataset
from ..networks.initialisation import new_readout
from ..optimisation.loop import Schedule
from ..optimisation.muon import Muon, branch_weights
from ..optimisation.updates import Losses, Precision, Updater, UpdateSettings, device_of
from ..settings import Settings
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


class VAESettings(Settings):
    """How a VAE is trained.

    encoder: whether it is trained too. One that a linear start has fitted can stay: its latents
    are then final while the decoder still learns. noise: the largest standard deviation of the
    noise on the latents of an encoder that stays (one that is trained has its posterior's). Each
    clip draws its own deviation, so that the decoder learns to ignore the flickering errors of a
    generator, and yet to use latents that have none.

    batch: clips an update, of `frames` frames each. accumulate: batches to an update.
    learning_rate: of AdamW (after a linear start 1e-4 at most). muon_rate: of Muon for the
    residual branches, 0 for AdamW alone. clip, average, precision, schedule: see `UpdateSettings`.

    mouth_weight, eyes_weight: see `region_weight`. square: see `reconstruction_loss`. temporal,
    detail, kl, probe: weights of these losses. log_variance: of the posterior at first.
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
    precision: Precision = "float32"
    mouth_weight: float = 12.0
    eyes_weight: float = 6.0
    square: float = 4.0
    temporal: float = 0.5
    detail: float = 0.5
    kl: float = 1e-5
    probe: float = 1.0
    log_variance: float = -6.0
    schedule: Schedule = Schedule(warmup=30, decay=0.5)

    @property
    def update(self) -> UpdateSettings:
        """Those that the optimizer and the averaging need."""
        return UpdateSettings(
            learning_rate=self.learning_rate,
            decay=0.0,
            schedule=self.schedule,
            clip=self.clip,
            average=self.average,
            accumulate=self.accumulate,
            precision=self.precision,
        )


@torch.no_grad()
def fit_statistics(
    vae: LTXVAE, clips: ClipDataset, count: int, frames: int, rng: torch.Generator
) -> None:
    """Set the mean and deviation of each latent channel to those of random parts of clips.

    After training: the generator expects latents of mean 0 and deviation 1.
    """
    mean, deviation = vae.get_buffer("latents_mean"), vae.get_buffer("latents_std")
    mean.zero_()
    deviation.fill_(1)
    videos = (draw_videos(clips, 1, frames, rng, mean.device).video for _ in range(count))
    latents = torch.cat(
        [vae.encode(video).transpose(0, 1).flatten(1) for video in videos], dim=1
    ).double()
    mean.copy_(latents.mean(dim=1))
    deviation.copy_(latents.std(dim=1).clamp_min(1e-6))


class VAEStage:
    """Trains a VAE on clips, for `updates` updates in all; see `optimisation.loop.Stage`."""

    def __init__(self, vae: LTXVAE, clips: ClipDataset, settings: VAESettings, updates: int):
        self.vae, self.clips, self.settings = vae, clips, settings
        height, width = clips.size
        latent_size = (height // vae.stride[1], width // vae.stride[2])
        self.probe = new_readout(
            lambda: LatentProbe(vae.latent_channels, vae.stride[0], latent_size),
            torch.Generator().manual_seed(0),
        ).to(device_of(vae))
        self.probe.start()
        if not settings.encoder:
            vae.encoder.requires_grad_(False)
            self.probe.requires_grad_(False)
        branches = branch_weights(vae) if settings.muon_rate else []
        muon = Muon(branches, settings.muon_rate) if branches else None
        self.updater = Updater(settings.update, vae, self.probe, updates=updates, second=muon)

    def losses(self, batch: VideoBatch, noise: Tensor | None, rng: torch.Generator) -> Losses:
        """Losses of one batch, with gradients.

        Args:
            batch: videos and what is known of them.
            noise: on the latents (B, C, t, h, w), of deviation 1; None to draw it.
            rng: for what is drawn.
        """
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
        """One update; losses by name. Raises what `Updater.update` does."""
        settings, device = self.settings, device_of(self.vae)

        def losses() -> Losses:
            batch = draw_videos(self.clips, settings.batch, settings.frames, rng, device)
            return self.losses(batch, None, rng)

        return self.updater.update(losses)

    def averaged_weights(self) -> dict[str, Tensor]:
        """The VAE's averaged weights by name; those of an encoder that stays are its own."""
        averaged = self.updater.averaged
        return {
            name: averaged.get(f"0.{name}", parameter.detach())
            for name, parameter in self.vae.named_parameters()
        }

    def averaged_vae(self) -> LTXVAE:
        """A copy with the averaged weights, for inference."""
        copy = build(lambda: LTXVAE(self.vae.config, self.vae.backend))
        state = {**self.vae.state_dict(), **self.averaged_weights()}
        copy.load_state_dict({k: v.detach().clone() for k, v in state.items()}, assign=True)
        return copy.eval().requires_grad_(False)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs: the weights too, also those of an encoder that stays."""
        return {
            "modules": self._modules().state_dict(),
            "averaged": self.averaged_weights(),
            "optimizers": [optimizer.state_dict() for optimizer in self.updater.optimizers],
            "count": self.updater.count,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same sizes and optimizers."""
        self._modules().load_state_dict(state["modules"])
        for name, mean in self.averaged_weights().items():
            mean.copy_(state["averaged"][name])
        for optimizer, saved in zip(self.updater.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.updater.count = state["count"]

    def _modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"vae": self.vae, "probe": self.probe})
