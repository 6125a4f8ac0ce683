"""The first graph, in a real ComfyUI: same result as the library, cached, cancelled, explained."""

from __future__ import annotations

import io
import shutil

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import flashhead
from flashhead.media.audio_source import FileAudio

from .graphs import in_a_ksampler, lite, node
from .pictures import pixels
from .server import (
    FIXTURES,
    PORTRAIT,
    SPEECH,
    WAN_VAE,
    ComfyServer,
    PromptFailed,
    PromptRejected,
    hum,
)

CLIP = ["IMAGE", "FLASHHEAD_STATE"]
NODES = {
    "FlashHeadLoadCheckpoint": ["MODEL", "VAE", "FLASHHEAD_AUDIO_ENCODER"],
    "FlashHeadExample": ["IMAGE", "AUDIO"],
    "FlashHeadEncodeAudio": ["FLASHHEAD_AUDIO", "INT"],
    "FlashHeadPreparePortrait": ["IMAGE", "FLASHHEAD_CROP"],
    "FlashHeadSampler": CLIP,
    "FlashHeadIncrementalSampler": CLIP,
    "FlashHeadGenerateVideo": ["VIDEO", "FLASHHEAD_STATE"],
    "FlashHeadStartStream": ["FLASHHEAD_STATE"],
    "FlashHeadSampleChunk": ["LATENT", "FLASHHEAD_STATE"],
    "FlashHeadDecodeChunk": CLIP,
    "FlashHeadSwitchPortrait": ["FLASHHEAD_STATE"],
    "FlashHeadSaveState": ["FLASHHEAD_STATE"],
    "FlashHeadLoadState": ["FLASHHEAD_STATE"],
    "FlashHeadLive": ["FLASHHEAD_STATE"],
    "FlashHeadDoctor": ["STRING"],
    "FlashHeadPasteBack": ["IMAGE"],
    "FlashHeadSplitSpeakers": ["AUDIO"] * 5,
}


@pytest.fixture(scope="module")
def bundle():
    return flashhead.load_bundle(FIXTURES / "tiny-checkpoint", "lite")


@pytest.fixture(scope="module")
def pro():
    return flashhead.load_bundle(FIXTURES / "tiny-checkpoint", "pro")


def library_frames(bundle, server: ComfyServer, **settings) -> np.ndarray:
    """The same run without ComfyUI, truncated to 8 bits as SaveImage does."""
    source = FileAudio(server.base / "input" / SPEECH)
    portrait = server.base / "input" / PORTRAIT
    chunks = flashhead.generate(bundle, portrait, source, size=(64, 64), **settings)
    frames = torch.cat([chunk.frames for chunk in chunks])
    return (frames * 255).numpy().astype(np.int16)


def test_the_nodes_are_listed_with_a_tooltip_on_every_socket(server: ComfyServer):
    found = {name for name in server.get("/object_info") if name.startswith("FlashHead")}
    assert found == {*NODES}
    for name, outputs in NODES.items():
        info = server.object_info(name)
        assert info["category"] == "FlashHead"
        assert info["description"]
        assert info["output"] == outputs
        assert all(info["output_tooltips"])
        for kind in ("required", "optional"):
            for socket in info["input"].get(kind, {}).values():
                assert socket[1]["tooltip"]
    options = server.object_info("FlashHeadLoadCheckpoint")["input"]["required"]["checkpoint"]
    assert "tiny/Model_Lite" in (options[1].get("options") or options[0])


@pytest.mark.parametrize("mode", ["stream", "once"])
def test_the_graph_gives_what_the_library_gives(server: ComfyServer, bundle, mode: str):
    entry = server.run(lite(mode=mode))
    found = pixels(server.images(entry, "images"))
    expected = library_frames(bundle, server, audio_mode=mode)
    assert found.shape == expected.shape == (round(1.5 * 25), 64, 64, 3)
    assert np.abs(found - expected).max() <= 1
    (item,) = server.outputs(entry, "video")
    with av.open(str(server.output_path(item))) as video:
        assert sum(1 for _ in video.decode(video=0)) == len(expected)
        assert video.streams.audio


def test_a_second_run_comes_from_the_cache(server: ComfyServer):
    prompt = lite(seed=7)
    server.run(prompt)
    again = server.queue(prompt)
    server.wait(again)
    (event,) = server.events_of(again, "execution_cached")
    assert {"load", "audio", "portrait", "sampler"} <= set(event["data"]["nodes"])


def test_another_seed_samples_again_without_loading_again(server: ComfyServer):
    server.run(lite(seed=8))
    again = server.queue(lite(seed=9))
    server.wait(again)
    cached = set(server.events_of(again, "execution_cached")[0]["data"]["nodes"])
    assert {"load", "audio", "portrait"} <= cached
    assert "sampler" not in cached


def test_progress_ticks_every_step_and_shows_every_chunk(server: ComfyServer):
    prompt_id = server.queue(lite(seed=10, steps=3))
    server.wait(prompt_id)
    values = [
        event["data"]["value"]
        for event in server.events_of(prompt_id, "progress")
        if event["data"]["node"] == "sampler"
    ]
    assert values and max(values) == 2 * 3  # two chunks of three steps
    assert len(server.events_of(prompt_id, "preview")) >= 2


def test_cancel_stops_within_a_step_and_the_next_run_works(server: ComfyServer):
    server.place_input("long.wav", hum(seconds=600))
    prompt_id = server.queue(lite(speech="long.wav", steps=100))
    server.wait_event(
        "progress", prompt_id=prompt_id, where=lambda event: event["data"]["node"] == "sampler"
    )
    server.interrupt()
    server.wait(prompt_id, timeout=5, check=False)
    (event,) = server.events_of(prompt_id, "execution_interrupted")
    assert event["data"]["node_id"] == "sampler"
    assert not server.events_of(prompt_id, "execution_error")
    assert server.images(server.run(lite(seed=11)), "images")


@pytest.mark.parametrize("dtype", ["default", "bf16", "fp16"])
def test_every_weight_dtype_runs(server: ComfyServer, bundle, dtype: str):
    found = pixels(server.images(server.run(lite(weight_dtype=dtype)), "images"))
    assert found.std() > 1
    assert np.abs(found - library_frames(bundle, server)).mean() < 8


def test_core_vae_nodes_decode_and_encode_with_our_vae(server: ComfyServer):
    prompt = lite() | {
        "encode": node("VAEEncode", pixels=["sampler", 0], vae=["load", 1]),
        "decode": node("VAEDecode", samples=["encode", 0], vae=["load", 1]),
        "again": node("SaveImage", images=["decode", 0], filename_prefix="again"),
    }
    # 37 frames do not fit the VAE; a clip of 33 does.
    prompt["cut"] = node("ImageFromBatch", image=["sampler", 0], batch_index=0, length=33)
    prompt["encode"]["inputs"]["pixels"] = ["cut", 0]
    assert len(server.images(server.run(prompt), "again")) == 33


def saved_latent(server: ComfyServer, entry: dict, name: str) -> torch.Tensor:
    (item,) = server.outputs(entry, name, "latents")
    return load_file(server.output_path(item))["latent_tensor"]


def test_cores_tiled_vae_nodes_take_our_vae(server: ComfyServer):
    """In tiles it is what it is as a whole."""
    colors = np.random.default_rng(5).integers(0, 256, (4, 6, 3), np.uint8)
    picture, file = Image.fromarray(colors).resize((192, 128)), io.BytesIO()
    picture.save(file, "png")
    prompt = {
        "load": lite()["load"],
        "picture": node("LoadImage", image=server.place_input("tiles.png", file.getvalue())),
        "clip": node("RepeatImageBatch", image=["picture", 0], amount=9),
    }
    for name, kind, size in (("whole", "", 0), ("one", "Tiled", 256), ("two", "Tiled", 128)):
        tiles = {"tile_size": size, "overlap": 32, "temporal_size": 64, "temporal_overlap": 8}
        settings = {"vae": ["load", 1]} | (tiles if size else {})
        prompt |= {
            f"encode {name}": node(f"VAEEncode{kind}", pixels=["clip", 0], **settings),
            f"decode {name}": node(f"VAEDecode{kind}", samples=["encode whole", 0], **settings),
            f"latent {name}": node(
                "SaveLatent", samples=[f"encode {name}", 0], filename_prefix="vae"
            ),
            f"frames {name}": node(
                "SaveImage", images=[f"decode {name}", 0], filename_prefix="vae"
            ),
        }
    entry = server.run(prompt)
    names = ("whole", "one", "two")
    latents = {name: saved_latent(server, entry, f"latent {name}") for name in names}
    frames = {name: pixels(server.images(entry, f"frames {name}")) for name in names}
    for name in ("one", "two"):
        assert torch.allclose(latents[name], latents["whole"], atol=1e-4)
        assert np.abs(frames[name] - frames["whole"]).max() <= 1


PRO = {"checkpoint": "tiny/Model_Pro", "width": 64, "height": 64, "steps": 2}


def with_core_vae(prompt: dict) -> dict:
    """The same graph with the VAE from core's Load VAE."""
    changed = prompt | {"wan": node("VAELoader", vae_name=WAN_VAE)}
    changed["sampler"]["inputs"]["vae"] = ["wan", 0]
    return changed


@pytest.mark.parametrize("core", [False, True], ids=["our VAE", "core's VAE"])
def test_pro_gives_what_the_library_gives(server: ComfyServer, pro, core: bool):
    prompt = lite(**PRO)
    found = pixels(server.images(server.run(with_core_vae(prompt) if core else prompt), "images"))
    expected = library_frames(pro, server, steps=2)
    assert found.shape == expected.shape == (round(1.5 * 25), 64, 64, 3)
    assert np.abs(found - expected).max() <= 1


def test_pro_finds_the_wan_vae_among_comfyuis_own(server: ComfyServer, pro):
    folder = server.base / "models" / "flashhead" / "apart"
    for part in ("Model_Pro", "wav2vec2-base-960h"):
        shutil.copytree(FIXTURES / "tiny-checkpoint" / part, folder / part)
    prompt = lite(**PRO | {"checkpoint": "apart/Model_Pro"})
    found = pixels(server.images(server.run(prompt), "images"))
    assert np.abs(found - library_frames(pro, server, steps=2)).max() <= 1


def test_a_one_file_bundle_is_listed_and_runs(server: ComfyServer, bundle):
    file = server.base / "models" / "flashhead" / "one file.safetensors"
    flashhead.convert(FIXTURES / "tiny-checkpoint", file, "lite", dtype="fp32")
    found = pixels(server.images(server.run(lite(checkpoint=file.name)), "images"))
    assert np.abs(found - library_frames(bundle, server)).max() <= 1


def test_guidance_runs(server: ComfyServer, pro):
    found = pixels(server.images(server.run(lite(**PRO, guidance=3.0)), "images"))
    assert np.abs(found - library_frames(pro, server, steps=2, guidance=3.0)).max() <= 1


@pytest.mark.parametrize(("first", "second"), [("load", "wan"), ("wan", "load")])
def test_latents_of_our_wan_vae_and_cores_are_exchangeable(server: ComfyServer, first, second):
    """Encoded by one, decoded by the other: what one alone gives."""
    vaes = {"load": ["load", 1], "wan": ["wan", 0]}
    prompt = {
        "load": lite(**PRO)["load"],
        "wan": node("VAELoader", vae_name=WAN_VAE),
        "picture": node("LoadImage", image=PORTRAIT),
        "portrait": node("FlashHeadPreparePortrait", image=["picture", 0], width=64, height=64),
        "clip": node("RepeatImageBatch", image=["portrait", 0], amount=5),
        "encode": node("VAEEncode", pixels=["clip", 0], vae=vaes[first]),
        "ours": node("VAEDecode", samples=["encode", 0], vae=vaes[first]),
        "theirs": node("VAEDecode", samples=["encode", 0], vae=vaes[second]),
        "a": node("SaveImage", images=["ours", 0], filename_prefix="a"),
        "b": node("SaveImage", images=["theirs", 0], filename_prefix="b"),
    }
    entry = server.run(prompt)
    a, b = (pixels(server.images(entry, name)) for name in "ab")
    assert len(a) == 5
    assert np.abs(a - b).max() <= 1


def test_a_vae_of_the_other_variant_is_refused_by_name(server: ComfyServer):
    prompt = with_core_vae(lite())
    assert "VAE of the other variant" in sampler_error(server, prompt, "sampler")


def sampler_error(server: ComfyServer, prompt: dict, node: str) -> str:
    with pytest.raises(PromptFailed) as caught:
        server.run(prompt)
    assert caught.value.event["node_id"] == node
    return caught.value.event["exception_message"].strip()


def test_an_illegal_size_names_the_nearest_legal_ones(server: ComfyServer):
    prompt = lite(width=64, height=80)
    assert "64x64 or 64x96" in sampler_error(server, prompt, "sampler")


def test_silent_death_by_missing_audio_is_explained(server: ComfyServer):
    prompt = lite()
    prompt["speech"] = node("EmptyAudio", duration=0.0, sample_rate=44100, channels=2)
    assert "empty" in sampler_error(server, prompt, "audio")


def test_a_batch_of_portraits_is_refused(server: ComfyServer):
    prompt = lite()
    prompt["picture"] = node("EmptyImage", width=64, height=64, batch_size=2, color=0)
    assert "batch of 2" in sampler_error(server, prompt, "portrait")


def test_a_ksampler_says_which_node_to_use(server: ComfyServer):
    prompt = in_a_ksampler()
    assert "FlashHead Sampler" in sampler_error(server, prompt, "ksampler")


def test_an_unknown_checkpoint_is_refused_before_anything_runs(server: ComfyServer):
    with pytest.raises(PromptRejected) as caught:
        server.queue(lite(checkpoint="nothing/Model_Lite"))
    assert caught.value.messages("load")


def test_everything_works_with_a_torchaudio_that_cannot_load(comfyui, bundle, tmp_path):
    """One that is missing altogether: see test_pocket."""
    with ComfyServer(comfyui, tmp_path / "base", broken={"torchaudio": "RuntimeError"}) as server:
        server.place_input(SPEECH, hum(seconds=1.5, sample_rate=44100))
        found = pixels(server.images(server.run(lite()), "images"))
        assert len(found) == round(1.5 * 25)
        assert found.std() > 1


def test_folders_of_extra_model_paths_are_listed(comfyui, tmp_path):
    """A checkpoint kept outside ComfyUI, in the layout of another node pack."""
    elsewhere = tmp_path / "other disk"
    shutil.copytree(
        FIXTURES / "tiny-checkpoint" / "wav2vec2-base-960h",
        elsewhere / "wav2vec" / "facebook" / "wav2vec2-base-960h",
    )
    for part in ("Model_Lite", "VAE_LTX"):
        shutil.copytree(
            FIXTURES / "tiny-checkpoint" / part, elsewhere / "Soul-AILab" / "FlashHead" / part
        )
    config = tmp_path / "extra.yaml"
    config.write_text(f"mine:\n    base_path: {elsewhere}\n    flashhead: Soul-AILab\n")
    arguments = ["--extra-model-paths-config", str(config)]
    with ComfyServer(comfyui, tmp_path / "base", arguments=arguments) as server:
        prompt = lite(checkpoint="FlashHead/Model_Lite")
        assert len(server.images(server.run(prompt), "images")) == round(1.5 * 25)
