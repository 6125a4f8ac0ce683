"""What a checkpoint's config.json says, as frozen dataclasses, and the arithmetic that follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from fractions import Fraction
from typing import Any

from .config_values import Values
from .errors import AudioError, CheckpointError, SizeError

FPS = 25
SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
CHUNK_FRAMES = 33
MOTION_LATENT_FRAMES = 2


@dataclass(frozen=True)
class GeneratorConfig:
    """The diffusion transformer's sizes (DESIGN §1.2).

    The audio projection's sizes are not in config.json: `audio_layers * audio_channels`,
    `audio_hidden` and `audio_tokens` are read off the weights' shapes.
    """

    dim: int
    ffn_dim: int
    num_heads: int
    num_layers: int
    freq_dim: int
    in_dim: int
    out_dim: int
    eps: float
    patch_size: tuple[int, int, int]
    vae_stride: tuple[int, int, int]
    audio_width: int
    audio_hidden: int
    audio_tokens: int
    audio_window: int = 5

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def audio_vectors(self) -> int:
        """Feature vectors that one latent frame after the first sees: 12 Lite, 8 Pro."""
        return self.audio_window + self.vae_stride[0] - 1

    @classmethod
    def from_checkpoint(
        cls, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], where: str
    ) -> GeneratorConfig:
        """From config.json and the weights' shapes; `where` names the file in errors."""
        audio_window = cls.audio_window
        try:
            hidden, first_inputs = shapes["audio_proj.proj1.weight"]
            token_outputs = shapes["audio_proj.proj3.weight"][0]
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"{where}: the key 'audio_proj.proj1.weight' or 'audio_proj.proj3.weight' is "
                "missing or not a matrix; this is not a FlashHead generator."
            ) from error
        values = Values(config, where)
        dim = values.size("dim")
        if first_inputs % audio_window or token_outputs % dim:
            raise CheckpointError(
                f"{where}: audio_proj.proj1 takes {first_inputs} inputs and proj3 gives "
                f"{token_outputs} outputs; expected multiples of {audio_window} and of dim {dim}."
            )
        if dim % (2 * values.size("num_heads")):
            raise values.refuse("num_heads", f"heads of equal and even width out of dim {dim}")
        if values.size("freq_dim") % 2:
            raise values.refuse("freq_dim", "an even number: half are cosines, half sines")
        return cls(
            dim=dim,
            ffn_dim=values.size("ffn_dim"),
            num_heads=values.size("num_heads"),
            num_layers=values.layers("num_layers"),
            freq_dim=values.size("freq_dim"),
            in_dim=values.size("in_dim"),
            out_dim=values.size("out_dim"),
            eps=values.epsilon("eps"),
            patch_size=values.strides("patch_size"),
            vae_stride=values.strides("vae_stride"),
            audio_width=first_inputs // audio_window,
            audio_hidden=hidden,
            audio_tokens=token_outputs // dim,
        )

    def published(self) -> dict[str, Any]:
        """As config.json says it; `from_checkpoint` reads the rest off the weights' shapes."""
        own = asdict(self)
        for key in ("audio_width", "audio_hidden", "audio_tokens", "audio_window"):
            del own[key]
        return {"_class_name": "WanModelAudioProject", **own}


@dataclass(frozen=True)
class AudioEncoderConfig:
    """wav2vec2's sizes, as Hugging Face's config.json names them."""

    conv_dim: tuple[int, ...]
    conv_kernel: tuple[int, ...]
    conv_stride: tuple[int, ...]
    conv_bias: bool
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_hidden_layers: int
    num_conv_pos_embeddings: int
    num_conv_pos_embedding_groups: int
    layer_norm_eps: float

    @classmethod
    def from_checkpoint(cls, config: Mapping[str, Any], where: str) -> AudioEncoderConfig:
        if config.get("feat_extract_norm", "group") != "group" or config.get(
            "do_stable_layer_norm", False
        ):
            raise CheckpointError(
                f"{where}: this wav2vec2 normalises every convolution (a 'large' layout); "
                "FlashHead was trained on facebook/wav2vec2-base-960h."
            )
        values = Values(config, where)
        conv_dim = values.sizes("conv_dim")
        return cls(
            conv_dim=conv_dim,
            conv_kernel=values.sizes("conv_kernel", len(conv_dim)),
            conv_stride=values.sizes("conv_stride", len(conv_dim)),
            conv_bias=values.flag("conv_bias"),
            hidden_size=values.size("hidden_size"),
            intermediate_size=values.size("intermediate_size"),
            num_attention_heads=values.divisor("num_attention_heads", of="hidden_size"),
            num_hidden_layers=values.layers("num_hidden_layers"),
            num_conv_pos_embeddings=values.size("num_conv_pos_embeddings"),
            num_conv_pos_embedding_groups=values.divisor(
                "num_conv_pos_embedding_groups", of="hidden_size"
            ),
            layer_norm_eps=values.epsilon("layer_norm_eps"),
        )

    def published(self) -> dict[str, Any]:
        """As config.json says it."""
        return {
            "model_type": "wav2vec2",
            **asdict(self),
            "feat_extract_norm": "group",
            "do_stable_layer_norm": False,
        }

    @property
    def receptive_field(self) -> int:
        """Samples under one convolutional frame (400 in wav2vec2-base)."""
        field = 1
        for kernel, stride in zip(
            reversed(self.conv_kernel), reversed(self.conv_stride), strict=True
        ):
            field = (field - 1) * stride + kernel
        return field


@dataclass(frozen=True)
class LTXVAEConfig:
    """The LTX 0.9.0 VAE's sizes, as diffusers names them (DESIGN §1.4).

    decoder_layers_per_block None means the encoder's; a level may have none.
    """

    block_out_channels: tuple[int, ...]
    layers_per_block: tuple[int, ...]
    spatio_temporal_scaling: tuple[bool, ...]
    latent_channels: int
    in_channels: int = 3
    out_channels: int = 3
    patch_size: int = 4
    encoder_causal: bool = True
    decoder_causal: bool = False
    decoder_layers_per_block: tuple[int, ...] | None = None

    @classmethod
    def from_diffusers(cls, config: Mapping[str, Any], where: str) -> LTXVAEConfig:
        name = config.get("_class_name", "AutoencoderKLLTXVideo")
        if name != "AutoencoderKLLTXVideo":
            raise CheckpointError(
                f"{where}: the config is of a {name}; expected AutoencoderKLLTXVideo (LTX 0.9.0)."
            )
        for key, wanted in (("patch_size_t", 1), ("timestep_conditioning", False)):
            if config.get(key, wanted) != wanted:
                raise CheckpointError(
                    f"{where}: {key} is {config[key]}; expected {wanted}: this is a later "
                    "LTX VAE than the 0.9.0 that Lite was trained with."
                )
        # As diffusers fills in what a config leaves out.
        defaults = {field.name: field.default for field in fields(cls) if field.default != MISSING}
        defaults["spatio_temporal_scaling"] = (True, True, True, False)
        values = Values({**defaults, **config}, where)
        widths = values.sizes("block_out_channels")
        decoder_layers = values.config["decoder_layers_per_block"]
        if decoder_layers is not None:
            decoder_layers = values.counts("decoder_layers_per_block", len(widths) + 1)
        return cls(
            block_out_channels=widths,
            layers_per_block=values.counts("layers_per_block", len(widths) + 1),
            spatio_temporal_scaling=values.flags("spatio_temporal_scaling", len(widths)),
            latent_channels=values.size("latent_channels"),
            in_channels=values.size("in_channels"),
            out_channels=values.size("out_channels"),
            patch_size=values.size("patch_size"),
            encoder_causal=values.flag("encoder_causal"),
            decoder_causal=values.flag("decoder_causal"),
            decoder_layers_per_block=decoder_layers,
        )

    def published(self) -> dict[str, Any]:
        """As diffusers' config.json says it."""
        return {"_class_name": "AutoencoderKLLTXVideo", **asdict(self), "patch_size_t": 1}

    @property
    def scalings(self) -> int:
        return sum(self.spatio_temporal_scaling)

    @property
    def stride(self) -> tuple[int, int, int]:
        """Pixels per latent in (t, h, w)."""
        spatial = self.patch_size * 2**self.scalings
        return (2**self.scalings, spatial, spatial)


@dataclass(frozen=True)
class ChunkGeometry:
    """How a stream is cut, derived from the generator's strides alone (DESIGN §1.2).

    A chunk is `CHUNK_FRAMES` frames; its first `motion_frames` repeat the end of the chunk before,
    and the other `new_frames` are new.
    """

    vae_stride: tuple[int, int, int]
    patch_size: tuple[int, int, int]
    latent_channels: int

    @classmethod
    def of(cls, config: GeneratorConfig) -> ChunkGeometry:
        return cls(config.vae_stride, config.patch_size, config.out_dim)

    @property
    def frames(self) -> int:
        return CHUNK_FRAMES

    @property
    def motion_frames(self) -> int:
        return (MOTION_LATENT_FRAMES - 1) * self.vae_stride[0] + 1

    @property
    def new_frames(self) -> int:
        return self.frames - self.motion_frames

    @property
    def new_samples(self) -> int:
        """16 kHz samples under the new frames of a chunk."""
        return self.new_frames * SAMPLES_PER_FRAME

    @property
    def latent_frames(self) -> int:
        return (self.frames - 1) // self.vae_stride[0] + 1

    @property
    def size_multiples(self) -> tuple[int, int]:
        return (
            self.vae_stride[1] * self.patch_size[1],
            self.vae_stride[2] * self.patch_size[2],
        )

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise `SizeError` unless (height, width) is legal; it names the nearest legal sizes."""
        multiples = self.size_multiples
        if all(
            value > 0 and value % step == 0 for value, step in zip(size, multiples, strict=True)
        ):
            return
        near = []
        for rounding in (math.floor, math.ceil):
            h, w = (
                max(step, rounding(value / step) * step)
                for value, step in zip(size, multiples, strict=True)
            )
            if f"{w}x{h}" not in near:
                near.append(f"{w}x{h}")
        raise SizeError(
            f"The size {size[1]}x{size[0]} (width x height) cannot be made: width must be a "
            f"multiple of {multiples[1]} and height of {multiples[0]}; nearest: "
            f"{' or '.join(near)}."
        )

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """(C, T, h, w) of a chunk's latents at (height, width)."""
        self.check_size(size)
        return (
            self.latent_channels,
            self.latent_frames,
            size[0] // self.vae_stride[1],
            size[1] // self.vae_stride[2],
        )


def frame_count(samples: int, sample_rate: int) -> int:
    """Frames that `samples` of audio get: round(seconds x 25), at least one."""
    if samples <= 0 or sample_rate <= 0:
        raise AudioError(
            f"The audio has {samples} samples at {sample_rate} Hz; both must be positive."
        )
    return max(1, round(Fraction(samples * FPS, sample_rate)))
