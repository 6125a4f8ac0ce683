"""Networks' sizes from config files and weights' shapes, and back to config.json.

Every function raises `CheckpointError`, which names the file and the key.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields
from typing import Any

from ..errors import CheckpointError, shown
from ..models.config import (
    AudioEncoderConfig,
    GeneratorConfig,
    LTXVAEConfig,
    TinyVAEConfig,
    VAEConfig,
    WanVAEConfig,
)
from ..models.wan_vae import LATENTS_MEAN

NetworkConfig = GeneratorConfig | AudioEncoderConfig | VAEConfig
Shapes = Mapping[str, tuple[int, ...]]

_LARGEST = 1 << 20
_MOST_LAYERS = 256
_NOT_IN_CONFIG = ("audio_width", "audio_hidden", "audio_tokens", "audio_window")


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value <= _LARGEST


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


# By a field's name, or else by its type: which values (or list entries) fit, and that in words.
_LAYERS = (
    lambda value: type(value) is int and 0 <= value <= _MOST_LAYERS,
    f"{{count}} numbers of layers, {_MOST_LAYERS} in all at most",
)
_CHECKS: dict[Any, tuple[Callable[[Any], bool], str]] = {
    "layers_per_block": _LAYERS,
    "decoder_layers_per_block": _LAYERS,
    "int": (_is_size, "a size above 0"),
    "bool": (_is_flag, "true or false"),
    "float": (lambda value: type(value) is float and 0 < value < 1, "a number between 0 and 1"),
    "tuple[int, int, int]": (_is_size, "[t, h, w] above 0"),
    "tuple[int, ...]": (_is_size, "sizes above 0"),
    "tuple[bool, ...]": (_is_flag, "{count} times true or false"),
}


@dataclass(frozen=True)
class _Reader:
    """The contents of a config.json and the file it is from, for error messages."""

    config: Mapping[str, Any]
    where: str

    def error(self, key: str, expected: str) -> CheckpointError:
        """The error to raise for a value."""
        return CheckpointError(
            f"{self.where}: config's {key} is {shown(self.config[key])}; expected {expected}."
        )

    def fields(self, network: type[NetworkConfig], **counts: int) -> dict[str, Any]:
        """The fields of a network's dataclass, each checked; `counts`: lengths of its lists."""
        return {
            field.name: self.value(field, counts.get(field.name))
            for field in fields(network)
            if field.name not in _NOT_IN_CONFIG
        }

    def value(self, field: Field[Any], count: int | None) -> Any:
        """One field's value; a list as a tuple."""
        key, kind = field.name, str(field.type)
        if key not in self.config:
            raise CheckpointError(
                f"{self.where}: config has no '{key}'; is this the file of another model?"
            )
        value = self.config[key]
        if value is None and kind.endswith("None"):
            return None
        fits, expected = _CHECKS.get(key) or _CHECKS[kind]
        is_list = kind.startswith("tuple")
        if is_list:
            if not isinstance(value, list | tuple) or not value:
                raise self.error(key, "a list")
            if len(value) != (count or len(value)) or len(value) > _MOST_LAYERS:
                raise self.error(key, f"{count or 'fewer'} values")
            value = tuple(value)
        if not all(map(fits, value if is_list else (value,))):
            raise self.error(key, expected.format(count=count))
        layers = sum(value) if _CHECKS.get(key) is _LAYERS else value
        if key.endswith(("_layers", "layers_per_block")) and layers > _MOST_LAYERS:
            raise self.error(key, f"{_MOST_LAYERS} layers in all at most")
        return value


def read_generator_config(config: Mapping[str, Any], shapes: Shapes, where: str) -> GeneratorConfig:
    """From config.json and, for the audio projection's sizes, the weights' shapes."""
    audio_window = GeneratorConfig.audio_window
    try:
        hidden, first_inputs = shapes["audio_proj.proj1.weight"]
        token_outputs, _ = shapes["audio_proj.proj3.weight"]
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{where}: the key 'audio_proj.proj1.weight' or 'audio_proj.proj3.weight' is "
            "missing or not a matrix; this is not a FlashHead generator."
        ) from error
    read = _Reader(config, where)
    sizes = read.fields(GeneratorConfig, patch_size=3, vae_stride=3)
    dim = sizes["dim"]
    sizes_read = (first_inputs, hidden, token_outputs)
    if not all(map(_is_size, sizes_read)) or first_inputs % audio_window or token_outputs % dim:
        raise CheckpointError(
            f"{where}: audio_proj.proj1 takes {first_inputs} inputs to {hidden} and proj3 gives "
            f"{token_outputs} outputs; expected multiples of {audio_window} and of dim {dim}."
        )
    if dim % (2 * sizes["num_heads"]):
        raise read.error("num_heads", f"heads of equal and even width out of dim {dim}")
    if sizes["freq_dim"] % 2:
        raise read.error("freq_dim", "an even number: half are cosines, half sines")
    return GeneratorConfig(
        **sizes,
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
    read = _Reader(config, where)
    count = _length(config, "conv_dim")
    sizes = read.fields(AudioEncoderConfig, conv_kernel=count, conv_stride=count)
    hidden = sizes["hidden_size"]
    for key in ("num_attention_heads", "num_conv_pos_embedding_groups"):
        if hidden % sizes[key]:
            raise read.error(key, f"a divisor of hidden_size, {hidden}")
    return AudioEncoderConfig(**sizes)


def read_ltx_config(config: Mapping[str, Any], where: str) -> LTXVAEConfig:
    """From diffusers' config.json of an LTX VAE."""
    name = config.get("_class_name", "AutoencoderKLLTXVideo")
    if name != "AutoencoderKLLTXVideo":
        raise CheckpointError(
            f"{where}: the config is of a {shown(name)}; expected AutoencoderKLLTXVideo "
            "(LTX 0.9.0)."
        )
    for key, wanted in (("patch_size_t", 1), ("timestep_conditioning", False)):
        if config.get(key, wanted) != wanted:
            raise CheckpointError(
                f"{where}: {key} is {shown(config[key])}; expected {wanted}: this is a "
                "later LTX VAE than the 0.9.0 that Lite was trained with."
            )
    # As diffusers fills in what a config leaves out.
    defaults = {
        field.name: field.default for field in fields(LTXVAEConfig) if field.default is not MISSING
    }
    defaults["spatio_temporal_scaling"] = (True, True, True, False)
    config = {**defaults, **config}
    count = _length(config, "block_out_channels")
    sizes = _Reader(config, where).fields(
        LTXVAEConfig,
        layers_per_block=count + 1,
        decoder_layers_per_block=count + 1,
        spatio_temporal_scaling=count,
    )
    return LTXVAEConfig(**sizes)


def _length(config: Mapping[str, Any], key: str) -> int:
    """How many entries other lists must have: as many as this one (0 where it is no list)."""
    value = config.get(key)
    return len(value) if isinstance(value, list | tuple) else 0


def read_wan_config(shapes: Shapes, where: str) -> WanVAEConfig:
    """From the shapes of the Wan VAE's published keys: there is no config file."""

    def channels(key: str) -> int:
        shape = shapes.get(key, ())
        if len(shape) != 5 or not _is_size(shape[0]):
            raise CheckpointError(
                f"{where}: the key '{key}' is {shown(shape) if shape else 'missing'}; expected a "
                "3-D convolution's weight: this is not the Wan 2.1 VAE."
            )
        return shape[0]

    latent_channels = channels("conv2.weight")
    if latent_channels != len(LATENTS_MEAN):
        raise CheckpointError(
            f"{where}: the key 'conv2.weight' has {latent_channels} latent channels; expected "
            f"{len(LATENTS_MEAN)}: this is not the Wan 2.1 VAE."
        )
    # The encoder's flat list: residual blocks, then a downsampler, at each resolution.
    stages: list[list[int]] = [[]]
    temporal: list[bool] = []
    for index in range(_MOST_LAYERS + 1):
        block = f"encoder.downsamples.{index}."
        if f"{block}resample.1.weight" in shapes and stages[-1]:
            temporal.append(f"{block}time_conv.weight" in shapes)
            stages.append([])
        elif f"{block}residual.6.weight" in shapes or not stages[-1]:
            stages[-1].append(channels(f"{block}residual.6.weight"))
        else:
            break
    if not stages[-1] or len(stages) * len(stages[0]) > _MOST_LAYERS:
        raise CheckpointError(
            f"{where}: its encoder has over {_MOST_LAYERS} blocks: this is not the Wan 2.1 VAE."
        )
    return WanVAEConfig(
        base_width=channels("encoder.conv1.weight"),
        widths=tuple(stage[-1] for stage in stages),
        temporal=tuple(temporal),
        residual_blocks=len(stages[0]),
        latent_channels=latent_channels,
    )


def read_tiny_config(shapes: Shapes, where: str) -> TinyVAEConfig:
    """From the shapes of TAEHV's keys: there is no config file."""
    # The first convolution, then those that end each resolution.
    found = [shapes.get(f"decoder.{n}.weight", ()) for n in (1, 8, 14, 20)]
    first, pixels = shapes.get("encoder.0.weight", ()), shapes.get("decoder.22.bias")
    latent_channels = len(LATENTS_MEAN)
    if any(len(shape) != 4 for shape in (first, *found)) or (found[0][1], pixels) != (
        latent_channels,
        (3,),
    ):
        raise CheckpointError(
            f"{where}: this tiny autoencoder has convolutions of shapes {[first, *found]}; "
            f"expected taew2_1, for {latent_channels} latent channels and pixels one by one."
        )
    return TinyVAEConfig(first[0], tuple(shape[0] for shape in found), latent_channels)


def to_config(config: NetworkConfig) -> dict[str, Any]:
    """The contents of a network's config.json, in the keys of the published files.

    A generator's audio sizes are left out: they are read off the weights' shapes. So are all of a
    Wan VAE's and a tiny one's, which are written for people to read.
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
    return {"_class_name": "WanVAE" if isinstance(config, WanVAEConfig) else "TAEHV", **sizes}
