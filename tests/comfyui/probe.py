"""A node pack for the test server: nodes that do to a MODEL what a user's setup or another pack
does, and look at what comes of it."""

import copy
import gc
import json
import sys
from contextlib import ExitStack
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace
from unittest import mock

import comfy.cli_args
import comfy.ldm.modules.attention
import comfy.model_management
import torch
from comfy_api.latest import ComfyExtension, InputImpl, Types, io


class ForcePartialLoad(io.ComfyNode):
    """A card with room for some of the weights only."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbePartialLoad",
            category="probe",
            inputs=[io.Model.Input("model"), io.Int.Input("bytes", min=0, max=1 << 40)],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model, bytes):
        model = model.clone()
        usual = model.partially_load

        def partially_load(device, extra_memory=0, force_patch_weights=False):
            return usual(device, bytes, force_patch_weights)

        model.partially_load = partially_load
        return io.NodeOutput(model)


class CountAttention(io.ComfyNode):
    """An attention override that counts its calls in `log`."""

    calls = 0

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeAttention",
            category="probe",
            inputs=[io.Model.Input("model"), io.Float.Input("scale", default=1.0)],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model, scale):
        model = model.clone()

        def override(usual, *args, **keywords):
            print("PROBE sigma", float(keywords["transformer_options"]["sigmas"][0]), flush=True)
            return usual(*args, **keywords) * scale

        model.model_options["transformer_options"]["optimized_attention_override"] = override
        return io.NodeOutput(model)


class OddAudio(io.ComfyNode):
    """AUDIO as other packs and broken graphs give it."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeOddAudio",
            category="probe",
            inputs=[io.String.Input("kind")],
            outputs=[io.Audio.Output()],
        )

    @classmethod
    def execute(cls, kind):
        hum = torch.sin(torch.arange(24_000) / 20) / 2
        whole = {"waveform": hum[None, None], "sample_rate": 16_000}
        nan = hum.clone()
        nan[8_000] = float("nan")
        audio = {
            "none": None,
            "empty dict": {},
            "no rate": {"waveform": hum[None, None]},
            "no waveform": {"waveform": None, "sample_rate": 16_000},
            "list": {"waveform": hum.tolist(), "sample_rate": 16_000},
            "tuple": (hum[None, None], 16_000),
            "function": lambda: whole,
            "batch": {"waveform": hum.repeat(2, 1, 1), "sample_rate": 16_000},
            "empty": {"waveform": torch.zeros(1, 2, 0), "sample_rate": 16_000},
            "no clip": {"waveform": torch.zeros(0, 1, 9), "sample_rate": 16_000},
            "4-D": {"waveform": hum[None, None, None], "sample_rate": 16_000},
            "rate": {"waveform": hum[None, None], "sample_rate": 16_000.5},
            "nan": {"waveform": nan[None, None], "sample_rate": 16_000},
            "spike": {"waveform": 1e20 * hum[None, None], "sample_rate": 16_000},
            # What can be taken
            "1-D": {"waveform": hum, "sample_rate": 16_000},
            "2-D": {"waveform": hum.repeat(2, 1), "sample_rate": 16_000},
            "float rate": whole | {"sample_rate": 16_000.0},
            "lazy": MappingProxyType(whole),
            "16 bit": whole | {"waveform": 32_767 * hum.repeat(1, 2, 1)},
            "out of phase": whole | {"waveform": torch.stack([hum, -hum])[None]},
        }[kind]
        return io.NodeOutput(audio)


class OddValue(io.ComfyNode):
    """What other packs give for IMAGE and VIDEO; any other kind is given as text."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeOddValue",
            category="probe",
            inputs=[io.String.Input("kind")],
            outputs=[io.AnyType.Output()],
        )

    @classmethod
    def execute(cls, kind):
        picture = torch.rand(64, 64, 3)
        rateless = Types.VideoComponents(images=picture[None], frame_rate=float("nan"))
        video = InputImpl.VideoFromComponents(rateless)
        return io.NodeOutput({"list": [picture], "one": picture, "no rate": video}.get(kind, kind))


class Boxes(io.ComfyNode):
    """Boxes as a face detector gives them: for each picture a list."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeBoxes",
            category="probe",
            inputs=[io.Int.Input(name) for name in ("x", "y", "width", "height")],
            outputs=[io.Custom("BOUNDING_BOX").Output()],
        )

    @classmethod
    def execute(cls, **box):
        return io.NodeOutput([[box]])


class Report(io.ComfyNode):
    """What is loaded and allocated now, as text."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeReport",
            category="probe",
            is_output_node=True,
            not_idempotent=True,
            inputs=[io.AnyType.Input("after"), io.Model.Input("model", optional=True)],
            outputs=[],
        )

    @classmethod
    def fingerprint_inputs(cls, **_):
        return float("nan")

    @classmethod
    def execute(cls, after, model=None):
        gc.collect()
        # Exactly these kinds: what torch.compile leaves behind has no memory to ask for.
        kinds = (torch.Tensor, torch.nn.Parameter)
        tensors = [x for x in gc.get_objects() if type(x) in kinds]
        storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
        report = {
            "loaded": len(comfy.model_management.current_loaded_models),
            "bytes": sum(storages.values()),
        }
        if model is not None:
            network = model.model.diffusion_model
            report["dtypes"] = sorted({str(p.dtype) for p in network.parameters()})
            report["lowvram"] = bool(getattr(model.model, "model_lowvram", False))
        return io.NodeOutput(ui={"text": [json.dumps(report)]})


class FullDevice(io.ComfyNode):
    """A VAE on a device where the whole picture does not fit; the log tells what it is asked for,
    and how much memory ComfyUI is asked to keep free."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeFullDevice",
            category="probe",
            not_idempotent=True,
            inputs=[io.Vae.Input("vae")],
            outputs=[io.Vae.Output()],
        )

    @classmethod
    def fingerprint_inputs(cls, **_):
        return float("nan")

    @classmethod
    def execute(cls, vae):
        class Full:
            def __init__(self, network):
                self.network = network

            def __getattr__(self, name):
                return getattr(self.network, name)

            def decode(self, x, tiles=1):
                return self.code("decode", x, tiles)

            def encode(self, x, tiles=1):
                return self.code("encode", x, tiles)

            def code(self, name, x, tiles):
                print("PROBE", name, x.shape[2], tiles, flush=True)
                if tiles == 1:
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                return getattr(self.network, name)(x, tiles)

        class CoreFull(Full):
            __module__ = type(vae.first_stage_model).__module__

            def code(self, name, x, tiles):
                # Core's does not say that it goes on in tiles: they are smaller.
                if max(x.shape[3:]) > {"decode": 32, "encode": 256}[name]:
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                return getattr(self.network, name)(x)

        if hasattr(vae, "geometry"):
            return io.NodeOutput(replace(vae, first_stage_model=Full(vae.first_stage_model)))
        cores = copy.copy(vae)
        cores.first_stage_model = CoreFull(vae.first_stage_model)
        return io.NodeOutput(cores)


_load_models_gpu = comfy.model_management.load_models_gpu


def load_models_gpu(models, memory_required=0, **keywords):
    print("PROBE asks for", memory_required, flush=True)
    return _load_models_gpu(models, memory_required=memory_required, **keywords)


comfy.model_management.load_models_gpu = load_models_gpu


class EncodeAudio(io.ComfyNode):
    """The audio encoder where ComfyUI's attention refuses float32, as Sage and Flash do."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeEncodeAudio",
            category="probe",
            is_output_node=True,
            inputs=[io.Custom("FLASHHEAD_AUDIO_ENCODER").Input("audio_encoder")],
            outputs=[],
        )

    @classmethod
    def execute(cls, audio_encoder):
        comfy.model_management.load_models_gpu([audio_encoder.patcher])
        refuse = mock.Mock(side_effect=TypeError("Only float16 and bfloat16"))
        with mock.patch.object(comfy.ldm.modules.attention, "optimized_attention", refuse):
            features = audio_encoder.network.encode(torch.randn(16_000))
        return io.NodeOutput(ui={"text": [str(tuple(features.shape))]})


def probe_attention(*given, **keywords):
    print("PROBE registered attention", flush=True)
    return comfy.ldm.modules.attention.attention_pytorch(*given, **keywords)


comfy.ldm.modules.attention.register_attention_function("probe", probe_attention)


class OnACard(io.ComfyNode):
    """What the networks of a checkpoint would compute in on a card that is not here, with a flag
    that ComfyUI was started with; and what is said of it."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeOnACard",
            category="probe",
            is_output_node=True,
            inputs=[io.String.Input(name) for name in ("checkpoint", "card", "flag")],
            outputs=[],
        )

    @classmethod
    def execute(cls, checkpoint, card, flag):
        name, _, capability = card.rpartition(" ")
        major, minor = map(int, capability.split("."))
        properties = SimpleNamespace(name=name, major=major, minor=minor)
        management, said = comfy.model_management, []
        pack = {
            module.__name__.rpartition(".nodes.")[2]: module
            for module in list(sys.modules.values())
            if ".nodes." in getattr(module, "__name__", "")
        }
        with ExitStack() as stack:
            for owner, attribute, value in (
                (torch.cuda, "get_device_properties", lambda *_: properties),
                (torch.cuda, "is_bf16_supported", lambda *_, **__: True),
                (management, "cpu_state", management.CPUState.GPU),
                (management, "get_torch_device", lambda: torch.device("cuda")),
                (management, "vae_device", lambda: torch.device("cuda")),
                (management, "maximum_vram_for_weights", lambda *_: 1000),
                (pack["models"], "make_patcher", lambda network, *_: network),
                (pack["vae"], "make_patcher", lambda network, *_: network),
                (pack["models"], "warn", said.extend),
                *([(comfy.cli_args.args, flag, True)] if flag else []),
            ):
                stack.enter_context(mock.patch.object(owner, attribute, value))
            opened = pack["paths"].open_named(checkpoint)
            vae = pack["vae"].load_vae(opened.vae, opened.geometry).first_stage_model
            model = pack["models"].load_model(opened.generator, opened.variant, None)
        generator = model.diffusion_model.backend.dtype
        report = {
            "dtypes": [str(dtype)[6:] for dtype in (model.weight_dtype, generator, vae.dtype)],
            "said": said,
        }
        return io.NodeOutput(ui={"text": [json.dumps(report)]})


class ProbeExtension(ComfyExtension):
    async def get_node_list(self):
        return [
            ForcePartialLoad,
            CountAttention,
            OddAudio,
            OddValue,
            Boxes,
            Report,
            OnACard,
            EncodeAudio,
            FullDevice,
        ]


async def comfy_entrypoint():
    return ProbeExtension()
