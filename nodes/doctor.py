"""Doctor: the library's page on this machine, with what ComfyUI decides in it."""

import logging
import math
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import comfy.cli_args
import comfy.ldm.modules.attention
import comfy.utils
import comfyui_version
import folder_paths
import torch
from comfy import model_management as management
from comfy_api.latest import io, ui

from ..flashhead.checkpoint.loading import open_checkpoint
from ..flashhead.doctor.examine import examine, verdict
from ..flashhead.doctor.files import Place
from ..flashhead.doctor.host import Host
from ..flashhead.doctor.machine import elements
from ..flashhead.doctor.report import Row, page
from ..flashhead.models.bundle import Bundle
from ..flashhead.models.config import PUBLISHED_LITE, VAEConfig
from ..flashhead.models.devices import AUDIO_DTYPE, Precision, precision
from ..flashhead.pocket import NAME as POCKET
from .models import generator_dtypes, load_encoder, load_model
from .paths import checkpoint_names, find_named, open_named
from .progress import check_interrupt
from .schema import output, schema
from .vae import load_vae, vae_dtype


def _host() -> Host:
    device = management.get_torch_device()
    kernel = comfy.ldm.modules.attention.optimized_attention.__name__
    return Host(
        device,
        precision=_precision,
        attention=lambda: (kernel, "ComfyUI's choice, unless Load Checkpoint says another"),
        load=_load,
        free=lambda: (management.get_free_memory(device), management.get_total_memory(device)),
        output=Path(folder_paths.get_output_directory()),
        software=_software,
        passing=(management.InterruptProcessingException,),
    )


def _software() -> Iterator[Row]:
    try:
        kitchen = metadata.version("comfy-kitchen")
    except metadata.PackageNotFoundError:
        kitchen = "missing"
    state = management.vram_state.name
    yield Row("ComfyUI", f"{comfyui_version.__version__}, comfy-kitchen {kitchen}, {state}")
    # Not what they are set to, which may be a folder or a password.
    usual, given = comfy.cli_args.parser.get_default, vars(comfy.cli_args.args).items()
    flags = (name.replace("_", "-") for name, value in given if value and value != usual(name))
    yield Row("flags", " ".join(f"--{name}" for name in flags))


def _precision(vae: VAEConfig) -> Precision:
    """What ComfyUI chooses, with the library's reasons where that is the same."""
    usual = precision(management.get_torch_device(), vae)
    _, generator = generator_dtypes(elements(PUBLISHED_LITE)[0])
    chosen = Precision(generator, vae_dtype(vae), AUDIO_DTYPE, dict(usual.reasons))
    for part in chosen.reasons:
        if getattr(chosen, part) != getattr(usual, part):
            chosen.reasons[part] = "ComfyUI's choice"
    return chosen


def _load(dtype: torch.dtype) -> Bundle:
    """The pocket checkpoint on ComfyUI's layers, loaded."""
    opened = open_checkpoint(POCKET)
    model = load_model(opened.generator, opened.variant, dtype)
    vae = load_vae(opened.vae, opened.geometry, opened.limits)
    encoder = load_encoder(opened.audio_encoder, opened.geometry)
    management.load_models_gpu([model, vae.patcher, encoder.patcher])
    generator, limits = model.model.diffusion_model, opened.limits
    return Bundle(opened.variant, generator, vae.first_stage_model, encoder.network, limits)


class Doctor(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadDoctor",
            display_name="FlashHead Doctor",
            description="For when something does not work: a page on your device, on what "
            "FlashHead uses there and why, on the checkpoint's files, and on whether a test video "
            "comes out right. Paste it into a bug report: it names neither you nor your home.",
            search_aliases=["diagnose", "self-test", "bug report", "check files", "sha256"],
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=checkpoint_names(),
                    tooltip="Whose files to look into, as in FlashHead Load Checkpoint.",
                ),
                io.Boolean.Input(
                    "verify",
                    default=False,
                    tooltip="Compare the files' checksums with those of the published ones. They "
                    "are read whole for that, which takes a minute or more.",
                ),
            ],
            outputs=[output(io.String, "page", "The page, for Preview as Text.")],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> float:
        return math.nan  # files and free memory change

    @classmethod
    def execute(cls, checkpoint: str, verify: bool) -> io.NodeOutput:
        bar, found = comfy.utils.ProgressBar(1), []
        path = find_named(checkpoint)
        opens = {checkpoint: lambda: open_named(checkpoint)}

        def on_bytes(read: int, total: int) -> None:
            check_interrupt()
            bar.update_absolute(read, total)

        place = Place(path.parent if path.is_dir() else path, opens)
        for section in examine(_host(), place, on_bytes if verify else None):
            check_interrupt()
            found.append(section)
        text = "\n".join([*(page(*section) for section in found), verdict(found)[1]])
        logging.info("FlashHead Doctor:\n%s", text)
        return io.NodeOutput(text, ui=ui.PreviewText(text))
