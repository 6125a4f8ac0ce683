"""From files on disk to a `Bundle` of networks: layouts, key names, checks.

The folder layout is the published one (DESIGN §1.1). Every file is checked by its header, against
the sizes it claims, before any weight is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .audio_encoder import AudioEncoder
from .backend import TORCH, Backend
from .config import AudioEncoderConfig, ChunkGeometry, GeneratorConfig, LTXVAEConfig
from .errors import CheckpointError
from .generator import Generator
from .vae import VAE
from .vae.ltx import LTXVAE
from .vae.ltx_layouts import convert_original, is_original
from .vae.wan_layouts import load_wan_vae
from .variants import VARIANTS
from .weights import WeightFile, assemble, read_config

GENERATOR_FOLDERS = {name: variant.generator for name, variant in VARIANTS.items()}
VAE_FOLDERS = {name: variant.vae for name, variant in VARIANTS.items()}
WEIGHTS = "diffusion_pytorch_model.safetensors"
AUDIO_ENCODER = "wav2vec2-base-960h"
REPOSITORY = "huggingface.co/Soul-AILab/SoulX-FlashHead-1_3B"
AUDIO_REPOSITORY = "huggingface.co/facebook/wav2vec2-base-960h"
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Bundle:
    """Everything that one variant needs: three networks."""

    variant: str
    generator: Generator
    vae: VAE
    audio_encoder: AudioEncoder

    @property
    def device(self) -> torch.device:
        """Where the generator computes."""
        return self.generator.backend.device or torch.device("cpu")

    @property
    def geometry(self) -> ChunkGeometry:
        return ChunkGeometry.of(self.generator.config)

    @property
    def dtype(self) -> torch.dtype:
        return self.generator.backend.dtype


@dataclass(frozen=True)
class Layout:
    """Where a variant's three components are on disk."""

    variant: str
    generator: Path
    vae: Path
    audio_encoder: Path


def find_variants(root: Path) -> list[str]:
    """The variants whose generator is in a published folder."""
    return [v for v, name in GENERATOR_FOLDERS.items() if (root / name / "config.json").is_file()]


def find_layout(path: str | Path, variant: str | None = None) -> Layout:
    """Find a variant's components in a published folder.

    Args:
        path: folder that holds Model_Lite, VAE_LTX and so on; the audio encoder is inside it or
            where the Hugging Face tools and other node packs put it beside.
        variant: "lite", "pro" or "pretrained"; None means the only one there.

    Raises:
        CheckpointError: nothing there, several variants and none named, an unknown variant, or a
            component missing (with the place it can be downloaded from).
    """
    root = Path(path)
    if variant is not None and variant not in GENERATOR_FOLDERS:
        raise CheckpointError(
            f"Unknown variant '{variant}'; expected one of {', '.join(GENERATOR_FOLDERS)}."
        )
    if not root.is_dir():
        raise CheckpointError(
            f"{root} is not a folder; expected the folder of {REPOSITORY} as downloaded."
        )
    present = find_variants(root)
    if not present:
        raise CheckpointError(
            f"{root} holds no generator ({' or '.join(GENERATOR_FOLDERS.values())}, each with a "
            f"config.json); download {REPOSITORY} into it."
        )
    if variant is None:
        if len(present) > 1:
            raise CheckpointError(
                f"{root} holds several variants ({', '.join(present)}); name the one to load."
            )
        variant = present[0]
    elif variant not in present:
        raise CheckpointError(
            f"{root} has no {GENERATOR_FOLDERS[variant]} folder, which variant '{variant}' needs; "
            f"it holds {', '.join(present)}. Download it from {REPOSITORY}."
        )
    vae = root / VAE_FOLDERS[variant]
    if not vae.is_dir():
        raise CheckpointError(
            f"{vae} does not exist; variant '{variant}' needs it. Download it from {REPOSITORY}."
        )
    return Layout(variant, root / GENERATOR_FOLDERS[variant], vae, _find_audio_encoder(root))


def _find_audio_encoder(root: Path) -> Path:
    for base in (root, root.parent, root.parent.parent):
        for below in ("", "facebook", "wav2vec/facebook"):
            folder = base / below / AUDIO_ENCODER
            if (folder / "config.json").is_file():
                return folder
    raise CheckpointError(
        f"{root / AUDIO_ENCODER} does not exist, nor beside the folder; download "
        f"{AUDIO_REPOSITORY} (config.json and model.safetensors) into it."
    )


def load_generator(
    folder: Path, *, device: torch.device | str, dtype: torch.dtype | None, backend: Backend = TORCH
) -> Generator:
    """The generator of a Model_* folder; `dtype` None keeps the stored one."""
    file = WeightFile(folder / WEIGHTS)
    config_path = folder / "config.json"
    config = GeneratorConfig.from_checkpoint(read_config(config_path), file.shapes, str(file.path))
    return assemble(
        partial(Generator, config),
        backend,
        file.shapes,
        ((key, file[key]) for key in file.shapes),
        str(file.path),
        device=device,
        dtype=dtype,
    )


def load_ltx_vae(
    path: Path, *, device: torch.device | str, dtype: torch.dtype | None, backend: Backend = TORCH
) -> LTXVAE:
    """The LTX 0.9.0 VAE from diffusers' folder, or from a file in either layout."""
    file = WeightFile(path / WEIGHTS if path.is_dir() else path)
    where = str(file.path)
    if is_original(list(file.shapes)):
        config, renames = convert_original(file.metadata, list(file.shapes), where)
    else:
        folder = path if path.is_dir() else path.parent
        config = LTXVAEConfig.from_diffusers(read_config(folder / "config.json"), where)
        renames = {key: key for key in file.shapes}
    return assemble(
        partial(LTXVAE, config),
        backend,
        {new: file.shapes[old] for old, new in renames.items()},
        ((new, file[old]) for old, new in renames.items()),
        where,
        device=device,
        dtype=dtype,
    )


_POSITION = "encoder.pos_conv_embed.conv."
_WEIGHT_NORMS = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)


def load_audio_encoder(
    folder: Path, *, device: torch.device | str, backend: Backend = TORCH
) -> AudioEncoder:
    """wav2vec2-base from Hugging Face's folder, in float32.

    The positional convolution's weight normalisation is folded into a plain weight.
    """
    file = WeightFile(folder / "model.safetensors")
    where = str(file.path)
    config = AudioEncoderConfig.from_checkpoint(read_config(folder / "config.json"), where)
    names = {key.removeprefix("wav2vec2."): key for key in file.shapes}
    shapes = {new: file.shapes[old] for new, old in names.items()}
    norm = next(
        (pair for pair in _WEIGHT_NORMS if all(_POSITION + name in names for name in pair)), None
    )
    if norm is not None:
        shapes[_POSITION + "weight"] = shapes[_POSITION + norm[1]]

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for new, old in names.items():
            yield new, file[old]
        if norm is not None:
            scale, direction = (file[names[_POSITION + name]].float() for name in norm)
            length = torch.linalg.vector_norm(direction, dim=(0, 1), keepdim=True)
            yield _POSITION + "weight", direction * (scale / length)

    return assemble(
        partial(AudioEncoder, config),
        replace(backend, dtype=torch.float32),
        shapes,
        tensors(),
        where,
        device=device,
        dtype=torch.float32,
    )


_VAE_LOADERS: dict[str, Callable[..., VAE]] = {"VAE_LTX": load_ltx_vae, "VAE_Wan": load_wan_vae}


def load_bundle(
    path: str | Path,
    variant: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Bundle:
    """Load a checkpoint.

    Args:
        path: the published folder (see `find_layout`).
        variant: "lite", "pro" or "pretrained"; None means the only one there.
        device: where the networks live and compute.
        dtype: float32, bfloat16 or float16 for generator and VAE; the audio encoder stays in
            float32.

    Raises:
        CheckpointError: a file that is missing, truncated, foreign or of the wrong shape.
    """
    if dtype not in _DTYPES:
        raise CheckpointError(
            f"The dtype {dtype} is not supported; expected float32, bfloat16 or float16."
        )
    layout = find_layout(path, variant)
    device = torch.device(device)
    backend = Backend(dtype=dtype, device=device)
    load_vae = _VAE_LOADERS[layout.vae.name]
    bundle = Bundle(
        variant=layout.variant,
        generator=load_generator(layout.generator, device=device, dtype=dtype, backend=backend),
        vae=load_vae(layout.vae, device=device, dtype=dtype, backend=backend),
        audio_encoder=load_audio_encoder(layout.audio_encoder, device=device, backend=backend),
    )
    check_family(bundle.generator.config, bundle.vae)
    return bundle


def check_family(config: GeneratorConfig, vae: VAE) -> None:
    """Raise `CheckpointError` unless a VAE makes the latents that a generator was trained on."""
    if (vae.latent_channels, tuple(vae.stride)) != (config.out_dim, config.vae_stride):
        raise CheckpointError(
            f"The VAE has {vae.latent_channels} latent channels at stride {tuple(vae.stride)}; "
            f"this generator needs {config.out_dim} at stride {config.vae_stride}: it is the VAE "
            "of the other variant (Lite uses LTX 0.9.0's, Pro uses Wan 2.1's)."
        )
