"""MODEL as ComfyUI's other nodes treat it, and the memory that is left behind."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import save_file

import flashhead
from flashhead.checkpoint.loading import open_checkpoint
from flashhead.media.audio_source import FileAudio
from flashhead.models import memory
from flashhead.models.config import CheckpointConfigs

from .client import PromptRejected
from .graphs import chunk_by_chunk, lite, node
from .pictures import pixels
from .server import FIXTURES, PORTRAIT, SPEECH, WAN_VAE, ComfyServer, hum

LORA = "blocks.0.self_attn.q", "blocks.1.ffn.0", "blocks.1.cross_attn.v"


def library(server: ComfyServer, bundle) -> np.ndarray:
    source = FileAudio(server.base / "input" / SPEECH)
    portrait = server.base / "input" / PORTRAIT
    frames = [c.frames for c in flashhead.generate(bundle, portrait, source, size=(64, 64))]
    return (torch.cat(frames) * 255).numpy().astype(np.int16)


def frames(server: ComfyServer, prompt: dict, timeout: float = 60) -> np.ndarray:
    return pixels(server.images(server.run(prompt, timeout), "images"))


def with_model(prompt: dict, **nodes: dict) -> dict:
    """The prompt with nodes between loader and sampler; each takes the MODEL of the one before."""
    model = ["load", 0]
    for name, made in nodes.items():
        made["inputs"]["model"] = model
        prompt[name], model = made, [name, 0]
    prompt["sampler"]["inputs"]["model"] = model
    return prompt


def report(server: ComfyServer, prompt: dict, model: list | None = None) -> dict:
    """What is in memory after a prompt."""
    inputs = {"after": ["sampler", 0]} | ({"model": model} if model else {})
    entry = server.run(prompt | {"report": node("ProbeReport", **inputs)})
    return json.loads(entry["outputs"]["report"]["text"][0])


@pytest.fixture(scope="module")
def lora(server: ComfyServer):
    """A LoRA file in the server's models, and a library bundle with it merged."""
    bundle = flashhead.load_bundle(FIXTURES / "tiny-checkpoint", "lite")
    rng, tensors = torch.Generator().manual_seed(3), {}
    weights = dict(bundle.generator.named_parameters())
    for name in LORA:
        weight = weights[f"{name}.weight"]
        down = torch.randn(4, weight.shape[1], generator=rng) * 0.2
        up = torch.randn(weight.shape[0], 4, generator=rng) * 0.2
        tensors[f"diffusion_model.{name}.lora_A.weight"] = down
        tensors[f"diffusion_model.{name}.lora_B.weight"] = up
        weight.data = weight.data + 0.75 * up @ down
    folder = server.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "tiny.safetensors")
    return library(server, bundle)


def load_lora(strength: float = 0.75) -> dict:
    return node("LoraLoaderModelOnly", lora_name="tiny.safetensors", strength_model=strength)


@pytest.mark.parametrize("room", [None, 60_000], ids=["whole", "partly loaded"])
def test_cores_lora_loader_changes_the_weights(server: ComfyServer, lora, room: int | None):
    nodes = {"lora": load_lora()}
    if room is not None:
        server.free()  # what is loaded whole stays so
        nodes["partial"] = node("ProbePartialLoad", bytes=room)
    prompt = with_model(lite(seed=42), **nodes)
    assert report(server, prompt, [list(nodes)[-1], 0])["lowvram"] == (room is not None)
    found = frames(server, prompt)
    assert np.abs(found - lora).max() <= 1
    assert np.abs(found - frames(server, lite())).max() > 1


def test_a_partly_loaded_model_gives_the_same(server: ComfyServer):
    server.free()  # what is loaded whole stays so
    prompt = with_model(lite(seed=31), partial=node("ProbePartialLoad", bytes=60_000))
    told = report(server, prompt, ["partial", 0])
    assert told["lowvram"]
    assert np.array_equal(frames(server, prompt), frames(server, lite(seed=31)))


def test_an_attention_override_is_called_at_every_step(server: ComfyServer):
    plain = frames(server, lite(seed=32))
    before = server.log.count("PROBE sigma")
    same = frames(server, with_model(lite(seed=32), probe=node("ProbeAttention", scale=1.0)))
    assert np.array_equal(plain, same)
    calls = server.log.count("PROBE sigma") - before
    assert calls == 2 * 4 * 3 * 2  # chunks, steps, layers, self and cross attention
    assert "PROBE sigma 0.9375" in server.log
    other = frames(server, with_model(lite(seed=32), probe=node("ProbeAttention", scale=0.5)))
    assert np.abs(plain - other).max() > 1


def test_every_attention_that_is_there_gives_the_same(server: ComfyServer):
    """ComfyUI's own, and what a pack registers: here the probe does."""
    prompt = lite(seed=33)
    plain = frames(server, prompt)
    options = server.object_info()["FlashHeadLoadCheckpoint"]["input"]["optional"]["attention"]
    names = options[1]["options"] if options[0] == "COMBO" else options[0]
    assert names[0] == "default" and {"pytorch", "sub_quad", "split", "probe"} < set(names)
    for name in names[1:]:
        prompt["load"]["inputs"]["attention"] = name
        assert np.abs(plain - frames(server, prompt)).max() <= 2
    assert "PROBE registered attention" in server.log


def test_an_attention_that_is_not_there_is_refused_before_anything_runs(server: ComfyServer):
    """As in a workflow that was saved on another computer."""
    prompt = lite()
    prompt["load"]["inputs"]["attention"] = "flash"
    with pytest.raises(PromptRejected) as caught:
        server.queue(prompt)
    (told,) = caught.value.messages("load")
    assert "'flash' attention" in told and "default, pytorch" in told
    prompt = {"load": prompt["load"], "out": node("PreviewAny", source=["load", 0])}
    prompt["name"] = node("ProbeOddValue", kind="pytorch")
    prompt["load"]["inputs"]["attention"] = ["name", 0]  # known only when that has run
    server.run(prompt)


def test_the_audio_encoder_goes_past_comfyuis_attention(server: ComfyServer):
    encode = node("ProbeEncodeAudio", audio_encoder=["load", 2])
    entry = server.run({"load": lite()["load"], "encode": encode})
    assert entry["outputs"]["encode"]["text"][0].startswith("(25,")


def test_fp8_keeps_matrices_in_8_bits_and_comes_close(server: ComfyServer):
    exact = frames(server, lite(seed=34))
    prompt = lite(seed=34, weight_dtype="fp8_e4m3fn")
    told = report(server, prompt, ["load", 0])
    assert "torch.float8_e4m3fn" in told["dtypes"]
    assert len(told["dtypes"]) == 2  # the rest in the computing dtype
    found = frames(server, prompt)
    assert 0 < np.abs(found - exact).mean() < 12


AMPERE, TURING = "NVIDIA GeForce RTX 3060 8.6", "NVIDIA GeForce RTX 2080 7.5"
PASCAL = "NVIDIA GeForce GTX 980 Ti 5.2"


@pytest.mark.parametrize(
    ("card", "flag", "lite", "pro", "says"),
    [
        # Weights, generator, VAE.
        (AMPERE, "", "bfloat16 bfloat16 bfloat16", "bfloat16 bfloat16 bfloat16", ""),
        (TURING, "", "float16 float16 float32", "float16 float16 float16", ""),
        # Here the weights do not fit in float32.
        (PASCAL, "", "bfloat16 float32 float32", "bfloat16 float32 float32", ""),
        # ComfyUI's flags are followed where the network can compute so.
        (AMPERE, "fp32_vae", "bfloat16 bfloat16 float32", "bfloat16 bfloat16 float32", ""),
        (AMPERE, "fp16_unet", "float16 float16 bfloat16", "float16 float16 bfloat16", ""),
        (AMPERE, "fp16_vae", "bfloat16 bfloat16 bfloat16", "bfloat16 bfloat16 float16", "float16"),
        (TURING, "fp16_vae", "float16 float16 float32", "float16 float16 float16", "float16"),
        (TURING, "bf16_unet", "bfloat16 float16 float32", "bfloat16 float16 float16", ""),
        (
            AMPERE,
            "fp64_unet",
            "bfloat16 bfloat16 bfloat16",
            "bfloat16 bfloat16 bfloat16",
            "float64",
        ),
    ],
)
def test_dtypes_on_a_card(
    server: ComfyServer, card: str, flag: str, lite: str, pro: str, says: str
):
    found, said = {}, {}
    for name in ("Lite", "Pro"):
        inputs = {"checkpoint": f"tiny/Model_{name}", "card": card, "flag": flag}
        entry = server.run({"report": node("ProbeOnACard", **inputs)})
        told = json.loads(entry["outputs"]["report"]["text"][0])
        found[name], said[name] = " ".join(told["dtypes"]), " ".join(told["said"])
    assert found == {"Lite": lite, "Pro": pro}
    assert says in said["Lite"] and bool(said["Lite"]) == bool(says)
    assert bool(said["Pro"]) == (says == "float64")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("way", ["core's node", "our switch"])
def test_compiled_gives_the_same(server: ComfyServer, way: str):
    plain = frames(server, lite(seed=35))
    prompt = lite(seed=35)
    if way == "our switch":
        prompt["load"]["inputs"]["compile"] = True
    else:
        with_model(prompt, compile=node("TorchCompileModel", backend="inductor"))
    assert np.abs(plain - frames(server, prompt, timeout=240)).max() <= 2


def asked(server: ComfyServer, prompt: dict) -> list[int]:
    """What ComfyUI is asked to keep free, in bytes, each time that something is loaded."""
    before = server.log.count("PROBE asks for")
    server.run(prompt, 60)
    return [int(n) for n in re.findall(r"PROBE asks for (\d+)", server.log)[before:]]


def test_memory_is_asked_for_before_each_call(server: ComfyServer):
    opened = open_checkpoint(FIXTURES / "tiny-checkpoint", "lite")
    sizes, size = CheckpointConfigs(*(part.config for part in opened.parts.values())), (64, 64)
    latents, full = sizes.generator.geometry.latent_shape(size)[1:], torch.float32
    encode = memory.encode_memory(sizes.vae, full, (33, *size))
    decode = memory.decode_memory(sizes.vae, full, latents)
    sample = memory.sampling_memory(sizes.generator, full, latents)
    audio = memory.audio_memory(sizes.audio_encoder, 8 * 16_000)
    chunk = max(encode, decode, memory.color_memory((33, *size)))
    # All networks last: where memory is short, to load the VAE for the portrait unloads the others.
    assert asked(server, lite(seed=61)) == [encode, max(chunk, sample, audio)]
    # Start Stream, then Sample Chunk and Decode Chunk.
    found = asked(server, chunk_by_chunk(1, seed=61))
    assert found == [encode, max(sample, audio), chunk]
    once = asked(server, lite(seed=61, mode="once"))
    assert once[0] == memory.audio_memory(sizes.audio_encoder, 24_000)
    prompt = lite(seed=61) | {
        "cut": node("ImageFromBatch", image=["sampler", 0], batch_index=0, length=33),
        "encode": node("VAEEncode", pixels=["cut", 0], vae=["load", 1]),
        "decode": node("VAEDecode", samples=["encode", 0], vae=["load", 1]),
        "again": node("PreviewImage", images=["decode", 0]),
    }
    assert asked(server, prompt)[-2:] == [encode, decode]


def test_out_of_memory_goes_on_in_tiles_and_says_so_once(server: ComfyServer):
    plain = frames(server, lite(seed=62))
    prompt = lite(seed=62)
    prompt["full"] = node("ProbeFullDevice", vae=["load", 1])
    prompt["sampler"]["inputs"]["vae"] = ["full", 0]
    before = server.log.count("goes on in tiles")
    prompt_id = server.queue(prompt)
    found = pixels(server.images(server.wait(prompt_id, timeout=60), "images"))
    assert np.abs(plain - found).max() <= 1
    assert server.log.count("goes on in tiles") == before + 1
    texts = [event["data"]["text"] for event in server.events_of(prompt_id, "text")]
    assert sum("goes on in tiles" in text for text in texts) >= 2  # it stays below the speed
    prompt["decode"] = node("VAEDecode", samples=["encode", 0], vae=["full", 0])
    prompt["cut"] = node("ImageFromBatch", image=["sampler", 0], batch_index=0, length=33)
    prompt["encode"] = node("VAEEncode", pixels=["cut", 0], vae=["full", 0])
    prompt["again"] = node("SaveImage", images=["decode", 0], filename_prefix="again")
    assert len(server.images(server.run(prompt, 60), "again")) == 33


def test_cores_wan_vae_goes_on_in_its_own_tiles(server: ComfyServer):
    server.place_input("one-chunk.wav", hum(seconds=0.2))
    wide = dict(width=288, height=32)  # more than a tile, which is what fits
    prompt = lite(checkpoint="tiny/Model_Pro", steps=1, seed=63, speech="one-chunk.wav", **wide)
    prompt["wan"] = node("VAELoader", vae_name=WAN_VAE)
    prompt["full"] = node("ProbeFullDevice", vae=["wan", 0])
    prompt["sampler"]["inputs"]["vae"] = ["full", 0]
    before, loads = server.log.count("goes on in tiles"), server.log.count("PROBE asks for")
    found = frames(server, prompt, timeout=120)
    assert found.shape == (5, 32, 288, 3) and found.std() > 10
    assert server.log.count("goes on in tiles") == before + 1
    # For the portrait and for the chunk. Another would be core's, which may unload the generator.
    assert server.log.count("PROBE asks for") == loads + 2


def test_no_reload_between_runs(server: ComfyServer):
    server.run(lite(seed=36))
    before = server.log.count("Requested to load FlashHeadModel")
    server.run(lite(seed=37))
    server.run(chunk_by_chunk(2, seed=38))
    assert server.log.count("Requested to load FlashHeadModel") == before


def test_twenty_runs_leave_memory_flat(server: ComfyServer):
    """Tensors that are alive, and the process: after warming up neither grows."""
    process = psutil.Process(server.pid)
    told, resident = [], []
    for run in range(20):
        told.append(report(server, lite(seed=1000 + run))["bytes"])
        resident.append(process.memory_info().rss)
    assert max(told[2:]) - min(told[2:]) < 100_000
    assert resident[-1] - resident[6] < 40_000_000


def test_two_workflows_in_a_row_and_unloading_leave_nothing(server: ComfyServer):
    """After Unload Models and Free Memory only what was there before the first run is alive."""

    def idle() -> dict:
        server.free()
        prompt = {
            "empty": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
            "sampler": node("ImageInvert", image=["empty", 0]),
        }
        report(server, prompt)  # frees, as it starts
        return report(server, prompt)

    before = idle()
    assert before["loaded"] == 0
    pro = lite(checkpoint="tiny/Model_Pro", steps=2)
    incremental = lite(sampler="FlashHeadIncrementalSampler", seed=39)
    for prompt in (lite(seed=39), pro, incremental, chunk_by_chunk(2)):
        server.run(prompt)
    assert report(server, lite(seed=39))["loaded"] == 3
    after = idle()
    assert after["loaded"] == 0
    assert after["bytes"] - before["bytes"] < 100_000


# Cancel


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("FlashHeadSampler", "stream"),
        ("FlashHeadIncrementalSampler", "stream"),
        ("FlashHeadGenerateVideo", "stream"),
        ("FlashHeadSampler", "once"),
    ],
)
def test_cancel_stops_soon_wherever_it_is(server: ComfyServer, kind: str, mode: str):
    """Pressed at odd moments: in the audio encoder, a step, the decoder; the next run is well."""
    server.place_input("long.wav", hum(seconds=200))
    for moment in (0.0, 0.15, 0.4):
        prompt = lite(sampler=kind, speech="long.wav", mode=mode, seed=40 + int(moment * 100))
        if kind == "FlashHeadGenerateVideo":
            del prompt["create"], prompt["images"]
            prompt["video"]["inputs"]["video"] = ["sampler", 0]
        prompt_id = server.queue(prompt)
        first = "audio" if mode == "once" and not moment else "sampler"
        server.wait_event(
            "executing",
            prompt_id=prompt_id,
            where=lambda e, first=first: (e["data"]["display_node"] or "").startswith(first),
        )
        if moment:
            with pytest.raises(TimeoutError):
                server.wait_event("execution_success", prompt_id=prompt_id, timeout=moment)
        server.interrupt()
        server.wait(prompt_id, timeout=5, check=False)
        assert server.events_of(prompt_id, "execution_interrupted")
        assert not server.events_of(prompt_id, "execution_error")
    assert len(frames(server, lite(seed=41))) == 38
