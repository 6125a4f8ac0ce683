"""Networks' sizes from config files and weights' shapes, and back to config.json.

Every function raises `CheckpointError`, which names the file and the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from ..errors import CheckpointError
from ..models.config import AudioEncoderConfig, GeneratorConfig, LTXVAEConfig, WanVAEConfig
from ..models.wan_vae import LATENTS_MEAN

NetworkConfig = GeneratorConfig | AudioEncoderConfig | LTXVAEConfig | WanVAEConfig
Shapes = Mapping[str, tuple[int, ...]]

_LARGEST = 1 << 20
_MOST_LAYERS = 1000
_NOT_IN_CONFIG = ("audio_width", "audio_hidden", "audio_tokens", "audio_window")


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value <= _LARGEST


def _is_layer_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MOST_LAYERS


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_epsilon(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < 1


@dataclass(frozen=True)
class ConfigReader:
    """A config and the file it is from; every method reads and checks one value.

    All raise `CheckpointError` for a value that is missing or out of range.
    """

    config: Mapping[str, Any]
    where: str

    def error(self, key: str, expected: str) -> CheckpointError:
        """The error to raise for a value."""
        return CheckpointError(
            f"{self.where}: config's {key} is {self.config[key]!r}; expected {expected}."
        )

    def get(self, key: str, fits: Callable[[Any], bool], expected: str) -> Any:
        """A value for which `fits` is true; `expected` says in words which those are."""
        if key not in self.config:
            raise CheckpointError(
                f"{self.where}: config has no '{key}'; is this the file of another model?"
            )
        if not fits(self.config[key]):
            raise self.error(key, expected)
        return self.config[key]

    def size(self, key: str) -> int:
        return self.get(key, _is_size, "a size above 0")

    def layers(self, key: str) -> int:
        if self.size(key) > _MOST_LAYERS:
            raise self.error(key, f"1 to {_MOST_LAYERS}")
        return self.config[key]

    def flag(self, key: str) -> bool:
        return self.get(key, _is_flag, "true or false")

    def epsilon(self, key: str) -> float:
        """What keeps a norm from dividing by zero."""
        return float(self.get(key, _is_epsilon, "a number between 0 and 1"))

    def divisor(self, key: str, of: str) -> int:
        """A size that divides another without remainder."""
        if self.size(of) % self.size(key):
            raise self.error(key, f"a divisor of {of}, {self.config[of]}")
        return self.config[key]

    def strides(self, key: str) -> tuple[int, int, int]:
        t, h, w = self._list(key, 3, _is_size, "[t, h, w] above 0")
        return (t, h, w)

    def sizes(self, key: str, count: int | None = None) -> tuple[int, ...]:
        """A list of sizes; `count` of them, or any number above 0."""
        return self._list(key, count, _is_size, "sizes above 0")

    def counts(self, key: str, count: int) -> tuple[int, ...]:
        """A list of `count` numbers of layers, 0 among them."""
        return self._list(key, count, _is_layer_count, f"{count} numbers of layers")

    def flags(self, key: str, count: int) -> tuple[bool, ...]:
        return self._list(key, count, _is_flag, f"{count} times true or false")

    def _list(
        self, key: str, count: int | None, fits: Callable[[Any], bool], expected: str
    ) -> tuple[Any, ...]:
        value = self.get(key, lambda v: isinstance(v, list | tuple) and len(v) > 0, "a list")
        if len(value) != (count or len(value)) or len(value) > _MOST_LAYERS:
            raise self.error(key, f"{count or 'fewer'} values")
        if not all(map(fits, value)):
            raise self.error(key, expected)
        return tuple(value)


def read_generator_config(config: Mapping[str, Any], shapes: Shapes, where: str) -> GeneratorConfig:
    """From config.json and, for the audio projection's sizes, the weights' shapes."""
    audio_window = GeneratorConfig.audio_window
    try:
        hidden, first_inputs = shapes["audio_proj.proj1.weight"]
        token_outputs = shapes["audio_proj.proj3.weight"][0]
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{where}: the key 'audio_proj.proj1.weight' or 'audio_proj.proj3.weight' is "
            "missing or not a matrix; this is not a FlashHead generator."
        ) from error
    read = ConfigReader(config, where)
    dim = read.size("dim")
    if first_inputs % audio_window or token_outputs % dim:
        raise CheckpointError(
            f"{where}: audio_proj.proj1 takes {first_inputs} inputs and proj3 gives "
            f"{token_outputs} outputs; expected multiples of {audio_window} and of dim {dim}."
        )
    if dim % (2 * read.size("num_heads")):
        raise read.error("num_heads", f"heads of equal and even width out of dim {dim}")
    if read.size("freq_dim") % 2:
        raise read.error("freq_dim", "an even number: half are cosines, half sines")
    return GeneratorConfig(
        dim=dim,
        ffn_dim=read.size("ffn_dim"),
        num_heads=read.size("num_heads"),
        num_layers=read.layers("num_layers"),
        freq_dim=read.size("freq_dim"),
        in_dim=read.size("in_dim"),
        out_dim=read.size("out_dim"),
        eps=read.epsilon("eps"),
        patch_size=read.strides("patch_size"),
        vae_stride=read.strides("vae_stride"),
        audio_width=first_inputs // audio_window,
        audio_hidden=hidden,
        audio_tokens=token_outputs // dim,
    )


def read_audio_encoder_config(config: Mapping[str, Any], where: str) -> AudioEncoderConfig:
    """From wav2vec2's config.json."""
    if config.get("feat_extract_norm", "group") != "group" or config.get(
        "do_stable_layer_norm", False
    ):
        raise CheckpointError(
            f"{where}: this wav2vec2 normalises every convolution (a 'large' layout); "
            "FlashHead was trained on facebook/wav2vec2-base-960h."
        )
    read = ConfigReader(config, where)
    conv_dim = read.sizes("conv_dim")
    return AudioEncoderConfig(
        conv_dim=conv_dim,
        conv_kernel=read.sizes("conv_kernel", len(conv_dim)),
        conv_stride=read.sizes("conv_stride", len(conv_dim)),
        conv_bias=read.flag("conv_bias"),
        hidden_size=read.size("hidden_size"),
        intermediate_size=read.size("intermediate_size"),
        num_attention_heads=read.divisor("num_attention_heads", of="hidden_size"),
        num_hidden_layers=read.layers("num_hidden_layers"),
        num_conv_pos_embeddings=read.size("num_conv_pos_embeddings"),
        num_conv_pos_embedding_groups=read.divisor(
            "num_conv_pos_embedding_groups", of="hidden_size"
        ),
        layer_norm_eps=read.epsilon("layer_norm_eps"),
    )


def read_ltx_config(config: Mapping[str, Any], where: str) -> LTXVAEConfig:
    """From diffusers' config.json of an LTX VAE."""
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
    defaults = {
        field.name: field.default for field in fields(LTXVAEConfig) if field.default is not MISSING
    }
    defaults["spatio_temporal_scaling"] = (True, True, True, False)
    read = ConfigReader({**defaults, **config}, where)
    widths = read.sizes("block_out_channels")
    decoder_layers = read.config["decoder_layers_per_block"]
    if decoder_layers is not None:
        decoder_layers = read.counts("decoder_layers_per_block", len(widths) + 1)
    return LTXVAEConfig(
        block_out_channels=widths,
        layers_per_block=read.counts("layers_per_block", len(widths) + 1),
        spatio_temporal_scaling=read.flags("spatio_temporal_scaling", len(widths)),
        latent_channels=read.size("latent_channels"),
        in_channels=read.size("in_channels"),
        out_channels=read.size("out_channels"),
        patch_size=read.size("patch_size"),
        encoder_causal=read.flag("encoder_causal"),
        decoder_causal=read.flag("decoder_causal"),
        decoder_layers_per_block=decoder_layers,
    )


def read_wan_config(shapes: Shapes, where: str) -> WanVAEConfig:
    """From the shapes of the Wan VAE's published keys: there is no config file."""

    def channels(key: str) -> int:
        if len(shapes.get(key, ())) != 5:
            raise CheckpointError(
                f"{where}: the key '{key}' is {shapes.get(key, 'missing')}; expected a 3-D "
                "convolution's weight: this is not the Wan 2.1 VAE."
            )
        return shapes[key][0]

    latent_channels = channels("conv2.weight")
    if latent_channels != len(LATENTS_MEAN):
        raise CheckpointError(
            f"{where}: the key 'conv2.weight' has {latent_channels} latent channels; expected "
            f"{len(LATENTS_MEAN)}: this is not the Wan 2.1 VAE."
        )
    # The encoder's flat list: residual blocks, then a downsampler, at each resolution.
    stages: list[list[int]] = [[]]
    temporal: list[bool] = []
    while True:
        block = f"encoder.downsamples.{len(temporal) + sum(map(len, stages))}."
        if f"{block}resample.1.weight" in shapes:
            temporal.append(f"{block}time_conv.weight" in shapes)
            stages.append([])
        elif f"{block}residual.6.weight" in shapes or not stages[-1]:
            stages[-1].append(channels(f"{block}residual.6.weight"))
        else:
            break
    return WanVAEConfig(
        base_width=channels("encoder.conv1.weight"),
        widths=tuple(stage[-1] for stage in stages),
        temporal=tuple(temporal),
        residual_blocks=len(stages[0]),
        latent_channels=latent_channels,
    )


def to_config(config: NetworkConfig) -> dict[str, Any]:
    """The contents of a network's config.json, in the keys of the published files.

    A generator's audio sizes are left out: they are read off the weights' shapes. So are all of a
    Wan VAE's, which are written for people to read.
    """
    sizes = asdict(config)
    if isinstance(config, GeneratorConfig):
        own = {key: value for key, value in sizes.items() if key not in _NOT_IN_CONFIG}
        return {"_class_name": "WanModelAudioProject", **own}
    if isinstance(config, AudioEncoderConfig):
        norms = {"feat_extract_norm": "group", "do_stable_layer_norm": False}
        return {"model_type": "wav2vec2", **sizes, **norms}
    if isinstance(config, LTXVAEConfig):
        return {"_class_name": "AutoencoderKLLTXVideo", **sizes, "patch_size_t": 1}
    return {"_class_name": "WanVAE", **sizes}
