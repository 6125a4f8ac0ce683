"""The reference implementation, from a checkout of it, on our weights.

Nothing of it is in this repository: https://github.com/Soul-AILab/SoulX-FlashHead. Its pipeline is
put together here without its loaders, which read files; what computes is its own code, compiled or
not as it would do it. It runs inside our process, so both see the same machine at the same time.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from functools import partialmethod
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from flashhead import Bundle, FlashHeadError, Settings
from flashhead.models.backend import build
from flashhead.models.config import GeneratorConfig
from flashhead.stream.clock import Clock

from .stubs import put_stubs

_NEEDS = "diffusers transformers==4.57.3 torchvision pyyaml"


class Reference:
    """Its Lite or Pro pipeline, one stream of it, timed by the stages that ours has.

    Args:
        checkout: folder of its repository.
        bundle: whose weights it gets.
        portrait: path of a picture.
        settings: of our stream; size, seed, shift and colour matching are taken over.
        steps: sampling steps.
        compiled: compile what it compiles by default.

    Raises:
        FlashHeadError: no checkout there, or something that it needs is not installed.
    """

    def __init__(
        self,
        checkout: Path,
        bundle: Bundle,
        portrait: Path,
        settings: Settings,
        steps: int,
        *,
        compiled: bool = False,
    ):
        self._inference = _import(checkout)
        self._module = importlib.import_module("flash_head.src.pipeline.flash_head_pipeline")
        self.device, self._seed = bundle.device, settings.seed
        self.pipeline = _pipeline(self._module, bundle, compiled)
        self._geometry = bundle.geometry
        self._skip, self._steps = bundle.geometry.motion_frames, steps
        with self._quiet():
            self.pipeline.prepare_params(
                str(portrait),
                settings.size,
                bundle.geometry.frames,
                self._skip,
                steps,
                settings.seed,
                settings.shift,
                settings.color_match,
            )

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Without its prints, and without waiting for a CUDA that is not there."""
        wait = torch.cuda.synchronize if self.device.type == "cuda" else lambda *_: None
        with redirect_stdout(io.StringIO()), mock.patch.object(torch.cuda, "synchronize", wait):
            yield

    def restart(self) -> None:
        """Back to before the first chunk."""
        self.pipeline.reset_person_name()
        self.pipeline.generator.manual_seed(self._seed)

    def encode_audio(self, window: Tensor) -> Tensor:
        """Audio context of a chunk from all that is in the audio cache, (N,)."""
        total = window.shape[0] // 640
        return self._inference.get_audio_embedding(
            self.pipeline, window.numpy(), total - self._geometry.frames, total
        ).to(self.device)

    @torch.no_grad()
    def velocity(self, x: Tensor, reference: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        return self.pipeline.model(x=x, timestep=timestep, context=context, y=reference)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (1, C, t, h, w) -> video (1, 3, T, H, W)."""
        return self.pipeline.vae.decode(latents[0])

    def encode(self, video: Tensor) -> Tensor:
        """Video (1, 3, T, H, W) -> latents (1, C, t, h, w)."""
        return self.pipeline.vae.encode(video)[None]

    def match_color(self, video: Tensor) -> Tensor:
        portrait = self.pipeline.original_color_reference
        strength = self.pipeline.color_correction_strength
        return self._module.match_and_blend_colors_torch(video, portrait, strength)

    @torch.no_grad()
    def frames(self, window: Tensor, noise: Tensor) -> Tensor:
        """The next chunk's new frames (n, H, W, 3) in [0, 1], its noise drawn from `noise`
        (draws, 1, C, t, h, w)."""
        draws = iter(noise)

        def draw(*_: Any, dtype: torch.dtype, **__: Any) -> Tensor:
            return next(draws)[0].to(self.device, dtype)

        context = self.encode_audio(window)
        with self._quiet(), mock.patch.object(torch, "randn", draw):
            frames = self._inference.run_pipeline(self.pipeline, context)
        return frames[self._skip :] / 255

    @torch.no_grad()
    def advance(self, window: Tensor) -> dict[str, float]:
        """Make the next chunk, to uint8 on the CPU; the seconds of each stage.

        A stage is measured from the end of the one before, as ours are: the sampler's arithmetic
        belongs to its step. It draws noise and computes its conditioning inside the steps.
        """
        clock, pipeline, calls = Clock(self.device), self.pipeline, []

        def timed(function: Callable[..., Any], before: str, after: str) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                clock.lap(before)
                result = function(*args, **kwargs)
                clock.lap(after)
                return result

            return call

        def step(**kwargs: Tensor) -> Tensor:
            calls.append(None)
            before = max(1, len(calls) - 1)  # what comes before the first is its noise
            return timed(model, f"step {before}", f"step {len(calls)}")(**kwargs)

        model, vae = pipeline.model, pipeline.vae
        match = self._module.match_and_blend_colors_torch
        last = f"step {self._steps}"
        timed_vae = mock.Mock(
            decode=timed(vae.decode, last, "decode"),
            encode=timed(vae.encode, "colour", "re-encode"),
        )
        with (
            self._quiet(),
            mock.patch.multiple(pipeline, model=step, vae=timed_vae),
            mock.patch.object(self._module, match.__name__, timed(match, "decode", "colour")),
        ):
            context = self.encode_audio(window)
            clock.lap("audio")
            frames = self._inference.run_pipeline(pipeline, context)
            frames[self._skip :].to(torch.uint8).cpu()
            clock.lap("transfer")
        return clock.seconds()


def check_checkout(checkout: Path) -> None:
    """Raise `FlashHeadError` if a folder is clearly not the reference's repository."""
    if not (checkout / "flash_head").is_dir():
        raise FlashHeadError(
            f"{checkout} is no checkout of the reference: it has no folder flash_head."
        )


def _import(checkout: Path) -> Any:
    here = Path.cwd()
    try:
        # Before the stubs, which these would take for the real modules.
        for needed in ("diffusers", "transformers"):
            importlib.import_module(needed)
        put_stubs()
        sys.path.insert(0, str(checkout.resolve()))
        os.chdir(checkout)  # it opens a file by a relative path when imported
        return importlib.import_module("flash_head.inference")
    except ImportError as error:
        raise FlashHeadError(
            f"The reference cannot be imported ({error}); it needs: pip install {_NEEDS}"
        ) from error
    finally:
        os.chdir(here)


def _pipeline(module: Any, bundle: Bundle, compiled: bool) -> Any:
    """A FlashHeadPipeline as its constructor leaves it, but with our weights."""
    pipeline = module.FlashHeadPipeline.__new__(module.FlashHeadPipeline)
    pipeline.param_dtype, pipeline.device = bundle.dtype, bundle.device
    pipeline.model_type, pipeline.use_ltx = bundle.variant, bundle.variant == "lite"
    pipeline.rank, pipeline.use_usp, pipeline.sp_size = 0, False, 1
    pipeline.num_timesteps, pipeline.use_timestep_transform = 1000, True
    pipeline.vae = (_ltx_vae if pipeline.use_ltx else _wan_vae)(bundle)
    pipeline.model = _generator(bundle)
    pipeline.config = pipeline.model.config
    pipeline.audio_encoder = _audio_encoder(bundle)
    pipeline.wav2vec_feature_extractor = module.Wav2Vec2FeatureExtractor()
    if compiled:
        pipeline.model = torch.compile(pipeline.model)
        vae = pipeline.vae.model if pipeline.use_ltx else pipeline.vae
        vae.encode, vae.decode = torch.compile(vae.encode), torch.compile(vae.decode)
    return pipeline


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """A network's tensors laid out as its file has them; shared, not copied, if they are so."""
    return {key: tensor.contiguous() for key, tensor in network.state_dict().items()}


def _generator(bundle: Bundle) -> nn.Module:
    module = importlib.import_module("flash_head.src.modules.flash_head_model")
    sizes: GeneratorConfig = bundle.generator.config
    config = asdict(sizes) | {"has_image_input": False, "text_dim": 4096}
    network = build(lambda: module.WanModelAudioProject(**config))
    network.load_state_dict(_weights(bundle.generator), strict=False, assign=True)
    del network.text_embedding, network.audio_emb  # never used
    network.freqs = module.precompute_freqs_cis_3d(sizes.head_dim)
    return network


def _ltx_vae(bundle: Bundle) -> Any:
    module = importlib.import_module("flash_head.ltx_video.ltx_vae")
    mapping = importlib.import_module("flash_head.ltx_video.utils.diffusers_config_mapping")
    base = module.CausalVideoAutoencoder.__mro__[1]
    network = build(lambda: module.CausalVideoAutoencoder.from_config(mapping.OURS_VAE_CONFIG))
    weights = {}
    for key, tensor in _weights(bundle.vae).items():
        for old, new in mapping.VAE_KEYS_RENAME_DICT.items():
            key = key.replace(old, new)
        weights[key] = tensor
    assign = partialmethod(nn.Module.load_state_dict, assign=True)
    with mock.patch.object(base, "load_state_dict", assign, create=True):
        network.load_state_dict(weights)
    # The mean of the posterior, as ours; its samples come from the global generator.
    posterior = sys.modules[base.__module__].DiagonalGaussianDistribution
    posterior.sample = lambda self, generator=None: self.mode()
    vae = module.LtxVAE.__new__(module.LtxVAE)
    vae.model = network
    return vae


def _wan_vae(bundle: Bundle) -> Any:
    module = importlib.import_module("flash_head.wan.modules.vae")

    def load(**_: Any) -> nn.Module:
        network = build(
            lambda: module.WanVAE_(
                dim=bundle.vae.config.base_width,
                z_dim=bundle.vae.latent_channels,
                temperal_downsample=[False, True, True],
            )
        )
        network.load_state_dict(_weights(bundle.vae), assign=True)
        return network

    with mock.patch.object(module, "_video_vae", load):
        return module.WanVAE(dtype=bundle.dtype, device=bundle.device)


def _audio_encoder(bundle: Bundle) -> nn.Module:
    module = importlib.import_module("flash_head.audio_analysis.wav2vec2")
    network = build(lambda: module.Wav2Vec2Model(module.Wav2Vec2Config()))
    weights, position = _weights(bundle.audio_encoder), "encoder.pos_conv_embed.conv"
    direction = weights.pop(f"{position}.weight")
    weights[f"{position}.parametrizations.weight.original0"] = torch.linalg.vector_norm(
        direction, dim=(0, 1), keepdim=True
    )
    weights[f"{position}.parametrizations.weight.original1"] = direction
    network.load_state_dict(weights, strict=False, assign=True)
    return network
