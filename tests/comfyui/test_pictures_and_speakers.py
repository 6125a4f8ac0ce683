"""Prepare Portrait, Paste Back and Split Speakers in a graph, and bad input at every node."""

from __future__ import annotations

import io
import re
import wave
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from .graphs import lite, node
from .pictures import pixels
from .server import FIXTURES, ComfyServer, PromptFailed, hum

SCENE = "scene.png"


def scene() -> bytes:
    """A smooth picture, 320x200."""
    y, x = np.mgrid[0:200, 0:320]
    rgb = np.stack([x * 255 // 320, y * 255 // 200, 128 + 0 * x], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "png")
    return file.getvalue()


def two_channels(seconds: float) -> bytes:
    """A stereo WAV: speech on the left first, on the right after it."""
    mono = hum(seconds)[44:]
    left = np.frombuffer(mono, np.int16)
    half = len(left) // 2
    both = np.zeros((len(left), 2), np.int16)
    both[:half, 0], both[half:, 1] = left[:half], left[half:]
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes(both.tobytes())
    return file.getvalue()


def failure(server: ComfyServer, prompt: dict, node_id: str) -> str:
    with pytest.raises(PromptFailed) as caught:
        server.run(prompt)
    assert caught.value.event["node_id"] == node_id
    return caught.value.event["exception_message"].strip()


def portrait(server: ComfyServer, **settings) -> dict:
    """A graph that crops the scene and saves the portrait as "out"."""
    server.place_input(SCENE, scene())
    return {
        "picture": node("LoadImage", image=SCENE),
        "portrait": node(
            "FlashHeadPreparePortrait", image=["picture", 0], width=64, height=64, **settings
        ),
        "out": node("SaveImage", images=["portrait", 0], filename_prefix="portrait"),
    }


def mean_of(server: ComfyServer, prompt: dict) -> np.ndarray:
    return pixels(server.images(server.run(prompt), "out")).mean((0, 1, 2))


def test_a_box_a_mask_and_a_face_crop_the_same_place(server: ComfyServer):
    box = portrait(server, crop="box", x=200, y=20, box_width=64, box_height=64)
    (image,) = server.images(server.run(box), "out")
    whole = Image.open(io.BytesIO(scene())).convert("RGB")
    assert np.array_equal(pixels([image])[0], pixels([whole.crop((200, 20, 264, 84))])[0])
    mask = portrait(server, crop="mask", ratio=2.0)
    mask["solid"] = node("SolidMask", value=0.0, width=320, height=200)
    mask["dot"] = node("SolidMask", value=1.0, width=32, height=32)
    mask["mask"] = node(
        "MaskComposite",
        destination=["solid", 0],
        source=["dot", 0],
        x=216,
        y=36,
        operation="add",
    )
    mask["portrait"]["inputs"]["mask"] = ["mask", 0]
    face = portrait(server, crop="face", ratio=2.0)
    face["boxes"] = node("ProbeBoxes", x=216, y=36, width=32, height=32)
    face["portrait"]["inputs"]["face"] = ["boxes", 0]
    expected = mean_of(server, box)
    assert np.abs(mean_of(server, mask) - expected).max() < 2
    assert np.abs(mean_of(server, face) - expected).max() < 2


def test_a_tiny_face_is_warned_of_on_the_node(server: ComfyServer):
    prompt = portrait(server, crop="cover")
    prompt["boxes"] = node("ProbeBoxes", x=60, y=2, width=12, height=12)
    prompt["portrait"]["inputs"]["face"] = ["boxes", 0]
    prompt_id = server.queue(prompt)
    server.wait(prompt_id)
    (event,) = server.events_of(prompt_id, "text")
    assert event["data"]["node"] == "portrait"
    assert "12" in event["data"]["text"]


def test_auto_is_the_original_codes_crop_or_the_middle(server: ComfyServer):
    prompt = portrait(server, crop="auto", ratio=5.0)
    prompt["boxes"] = node("ProbeBoxes", x=216, y=56, width=32, height=40)
    prompt["portrait"]["inputs"]["face"] = ["boxes", 0]
    (image,) = server.images(server.run(prompt), "out")
    whole = Image.open(io.BytesIO(scene())).convert("RGB")
    box = (200, 76 - 0.55 * 64, 264, 76 + 0.45 * 64)
    expected = whole.resize((64, 64), Image.Resampling.BILINEAR, box)
    assert np.abs(pixels([image]) - pixels([expected])).max() <= 1
    del prompt["boxes"], prompt["portrait"]["inputs"]["face"]
    prompt_id = server.queue(prompt)
    (image,) = server.images(server.wait(prompt_id), "out")
    (event,) = server.events_of(prompt_id, "text")
    assert event["data"]["node"] == "portrait" and "middle" in event["data"]["text"]
    expected = whole.crop((60, 0, 260, 200)).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.abs(pixels([image]) - pixels([expected])).max() <= 3  # the middle to the pixel


def test_two_speakers_are_pasted_back_into_one_picture(server: ComfyServer):
    """Each head moves where its portrait was cut out; all else of the picture stays."""
    server.place_input(SCENE, scene())
    server.place_input("two.wav", two_channels(1.5))
    base = lite(speech="two.wav")
    prompt = {name: base[name] for name in ("load", "speech")} | {
        "picture": node("LoadImage", image=SCENE),
        "split": node(
            "FlashHeadSplitSpeakers",
            audio=["speech", 0],
            source="channels",
            loudness="as recorded",
            gate_db=-60.0,
        ),
    }
    background = ["picture", 0]
    for speaker, x in enumerate((16, 224)):
        prompt[f"portrait{speaker}"] = node(
            "FlashHeadPreparePortrait",
            image=["picture", 0],
            width=64,
            height=64,
            crop="box",
            x=x,
            y=40,
            box_width=80,
            box_height=80,
        )
        prompt[f"audio{speaker}"] = node(
            "FlashHeadEncodeAudio",
            audio_encoder=["load", 2],
            audio=["split", speaker],
            mode="stream",
            cache_seconds=8.0,
        )
        prompt[f"sampler{speaker}"] = base["sampler"] | {
            "inputs": base["sampler"]["inputs"]
            | {"audio": [f"audio{speaker}", 0], "portrait": [f"portrait{speaker}", 0]}
        }
        prompt[f"paste{speaker}"] = node(
            "FlashHeadPasteBack",
            background=background,
            frames=[f"sampler{speaker}", 0],
            crop=[f"portrait{speaker}", 1],
            feather=8,
            color_match=0.5,
        )
        background = [f"paste{speaker}", 0]
    prompt["images"] = node("SaveImage", images=background, filename_prefix="two")
    prompt["mix"] = node("SaveAudio", audio=["split", 4], filename_prefix="mix")
    entry = server.run(prompt, timeout=120)
    found = pixels(server.images(entry, "images"))
    whole = pixels([Image.open(io.BytesIO(scene()))])[0]
    assert found.shape == (38, 200, 320, 3)
    outside = np.ones((200, 320), bool)
    for x in (16, 224):
        outside[40:120, x : x + 80] = False
        head = found[:, 60:100, x + 20 : x + 60]
        assert np.abs(head - whole[60:100, x + 20 : x + 60]).max() > 5
        assert np.abs(np.diff(head, axis=0)).max() > 2
    assert np.array_equal(
        found[:, outside], np.broadcast_to(whole[outside], found[:, outside].shape)
    )
    assert server.outputs(entry, "mix", "audio")


def test_paste_back_takes_a_video(server: ComfyServer):
    server.place_input(SCENE, scene())
    prompt = portrait(server, crop="box", x=100, y=40, box_width=80, box_height=80)
    prompt["clip"] = node("RepeatImageBatch", image=["picture", 0], amount=3)
    prompt["video"] = node("CreateVideo", images=["clip", 0], fps=25.0)
    prompt["black"] = node("EmptyImage", width=64, height=64, batch_size=5, color=0)
    prompt["paste"] = node(
        "FlashHeadPasteBack",
        background=["video", 0],
        frames=["black", 0],
        crop=["portrait", 1],
        feather=0,
        color_match=0.0,
    )
    prompt["out"]["inputs"]["images"] = ["paste", 0]
    found = pixels(server.images(server.run(prompt), "out"))
    assert found.shape == (5, 200, 320, 3)
    assert found[:, 45:115, 105:175].max() == 0
    assert found[:, :, 0:100].max() > 60


def test_a_video_background_keeps_its_speed(server: ComfyServer):
    """Each second of it is a second of the result, though it has 50 or now 10, now 50 frames."""
    steady = [Fraction(n, 50) for n in range(50)]
    varying = [Fraction(n, 10) for n in range(5)] + [Fraction(1, 2) + n for n in steady[:25]]
    for name, starts in (("steady.mp4", steady), ("varying.mp4", varying)):
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as out:
            stream = out.add_stream("libx264", rate=50, options={"crf": "0"})
            stream.width, stream.height, stream.pix_fmt = 320, 200, "yuv420p"
            for start in starts:
                shade = np.full((200, 320, 3), round(20 + 200 * start), np.uint8)
                frame = av.VideoFrame.from_ndarray(shade)
                frame.pts, frame.time_base = round(start * 50), Fraction(1, 50)
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
        server.place_input(name, file.getvalue())
        prompt = portrait(server, crop="box", x=100, y=40, box_width=80, box_height=80)
        prompt["video"] = node("LoadVideo", file=name)
        prompt["paste"] = node(
            "FlashHeadPasteBack",
            background=["video", 0],
            frames=["portrait", 0],
            crop=["portrait", 1],
            feather=0,
            color_match=0.0,
        )
        prompt["out"]["inputs"]["images"] = ["paste", 0]
        found = pixels(server.images(server.run(prompt), "out"))[:, 5, 5].mean(-1)
        shown = [max(s for s in starts if s <= Fraction(n, 25)) for n in range(25)]
        assert found == pytest.approx([20 + 200 * float(s) for s in shown], abs=4), name


# Bad input (DESIGN §6): one sentence, at the node that is wrong


def with_audio(socket: str, kind: str) -> tuple[dict, str]:
    """A graph with AUDIO of a kind at a socket, and the node that has it."""
    prompt = lite(sampler="FlashHeadGenerateVideo")
    for name in ("create", "images"):
        del prompt[name]
    prompt["video"]["inputs"]["video"] = ["sampler", 0]
    prompt["odd"] = node("ProbeOddAudio", kind=kind)
    if socket == "split":
        split = {"source": "tracks", "loudness": "as recorded", "gate_db": -60.0}
        prompt["split"] = node("FlashHeadSplitSpeakers", audio=["speech", 0], **split)
        prompt["split"]["inputs"]["audio_3"] = ["odd", 0]
        prompt["audio"]["inputs"]["audio"] = ["split", 2]
        return prompt, "split"
    where, name = ("audio", "audio") if socket == "prepare" else ("sampler", "sound")
    prompt[where]["inputs"][name] = ["odd", 0]
    return prompt, where


@pytest.mark.parametrize("socket", ["prepare", "split", "sound"])
def test_audio_that_is_no_clip_is_refused_alike_at_every_socket(server: ComfyServer, socket: str):
    for kind, words in (
        ("none", "is empty.* video without"),
        ("empty dict", "has no waveform"),
        ("no rate", "has no sample_rate"),
        ("no waveform", "has no waveform"),
        ("list", "is a list"),
        ("tuple", "is a tuple; expected an AUDIO"),
        ("function", "is a function; expected an AUDIO"),
        ("batch", "batch of 2 clips"),
        ("empty", r"\(2, 0\) is empty"),
        ("no clip", r"\(0, 1, 9\); expected \(1, channels, samples\)"),
        ("4-D", r"\(1, 1, 1, 24000\); expected \(1, channels, samples\)"),
        ("rate", "16000.5"),
        ("nan", "NaN or infinity at 0.50 s"),
        ("spike", "at 0.00 s"),
    ):
        if kind == "none" and socket != "prepare":
            continue  # an optional socket that has nothing
        prompt, where = with_audio(socket, kind)
        said = failure(server, prompt, where)
        assert re.search(words, said) and "\n" not in said, (kind, said)


@pytest.mark.parametrize("socket", ["prepare", "split"])
def test_audio_of_other_packs_is_taken_and_warned_of(server: ComfyServer, socket: str):
    for kind, words in (
        ("1-D", None),
        ("2-D", None),
        ("float rate", None),
        ("lazy", None),
        ("16 bit", "full scale is 1"),
        ("out of phase", "channel 1 alone"),
    ):
        prompt, where = with_audio(socket, kind)
        for name in ("sampler", "video"):
            del prompt[name]
        prompt["out"] = node("PreviewAny", source=["audio", 1])
        prompt_id = server.queue(prompt)
        assert server.wait(prompt_id)["outputs"]["out"]["text"] == ["38"]
        events = server.events_of(prompt_id, "text")
        said = [event["data"]["text"] for event in events if event["data"]["node"] == where]
        assert len(said) == bool(words) and all(words in text for text in said), (kind, said)


@pytest.mark.parametrize(("kind", "words"), [("2-D", None), ("16 bit", "full scale is 1")])
def test_a_videos_sound_may_be_another_packs_audio(server: ComfyServer, kind: str, words: str):
    prompt, _ = with_audio("sound", kind)
    prompt["sampler"]["inputs"]["steps"] = 1
    prompt_id = server.queue(prompt)
    (item,) = server.outputs(server.wait(prompt_id), "video")
    with av.open(str(server.output_path(item))) as video:
        assert video.streams.audio[0].channels == 2
    events = server.events_of(prompt_id, "text")
    said = [event["data"]["text"] for event in events if event["data"]["node"] == "sampler"]
    # Above all, what the chunks say does not hide it.
    assert said and all((words or "full scale") in text for text in said) == bool(words), said


def test_a_portrait_with_alpha_is_refused(server: ComfyServer):
    prompt = lite()
    prompt["mask"] = node("SolidMask", value=0.5, width=64, height=64)
    prompt["see-through"] = node("JoinImageWithAlpha", image=["picture", 0], alpha=["mask", 0])
    prompt["portrait"]["inputs"]["image"] = ["see-through", 0]
    assert "alpha" in failure(server, prompt, "portrait")


@pytest.mark.parametrize("where", ["sampler", "start", "paste"])
def test_what_is_no_picture_is_refused_alike_at_every_socket(server: ComfyServer, where: str):
    prompt = lite(steps=1)
    prompt["start"] = node("FlashHeadStartStream", vae=["load", 1], portrait=["portrait", 0])
    prompt["start"]["inputs"]["seed"] = 1
    paste = {"frames": ["portrait", 0], "crop": ["portrait", 1], "feather": 0, "color_match": 0.0}
    prompt["paste"] = node("FlashHeadPasteBack", background=["portrait", 0], **paste)
    prompt = {name: prompt[name] for name in ("load", "picture", "speech", "portrait", "audio")} | {
        where: prompt[where],
        "odd": node("ProbeOddValue", kind="list"),
        "out": node("PreviewAny", source=[where, 0]),
    }
    socket = "background" if where == "paste" else "portrait"
    prompt[where]["inputs"][socket] = ["odd", 0]
    said = failure(server, prompt, where)
    assert re.match(rf"The {socket} is (a )?list", said), said
    prompt["odd"]["inputs"]["kind"] = "no rate" if where == "paste" else "one"
    if where == "paste":
        assert "no frame rate" in failure(server, prompt, where)
    else:  # as Prepare Portrait takes it
        server.run(prompt)


def test_an_empty_mask_is_refused(server: ComfyServer):
    prompt = portrait(server, crop="mask")
    prompt["mask"] = node("SolidMask", value=0.0, width=320, height=200)
    prompt["portrait"]["inputs"]["mask"] = ["mask", 0]
    assert "mask" in failure(server, prompt, "portrait")


def test_a_crop_of_another_picture_is_refused(server: ComfyServer):
    prompt = portrait(server, crop="cover")
    prompt["other"] = node("EmptyImage", width=100, height=100, batch_size=1, color=0)
    prompt["paste"] = node(
        "FlashHeadPasteBack",
        background=["other", 0],
        frames=["portrait", 0],
        crop=["portrait", 1],
        feather=0,
        color_match=0.0,
    )
    prompt["out"]["inputs"]["images"] = ["paste", 0]
    assert "100x100" in failure(server, prompt, "paste")


@pytest.mark.parametrize("damage", ["truncated", "not weights", "another key"])
def test_a_damaged_checkpoint_is_named(server: ComfyServer, damage: str):
    folder = server.base / "models" / "flashhead" / f"damaged {damage}"
    for part in ("Model_Lite", "VAE_LTX", "wav2vec2-base-960h"):
        target = folder / part
        target.mkdir(parents=True)
        for file in (FIXTURES / "tiny-checkpoint" / part).iterdir():
            (target / file.name).write_bytes(file.read_bytes())
    file = folder / "Model_Lite" / "diffusion_pytorch_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(
        {
            "truncated": whole[: len(whole) // 2],
            "not weights": b"<html>404</html>",
            "another key": whole.replace(b"patch_embedding.weight", b"patch_embedding.height"),
        }[damage]
    )
    said = failure(server, lite(checkpoint=f"{folder.name}/Model_Lite"), "load")
    assert str(file) in said
    if damage == "another key":
        assert "patch_embedding.weight" in said
