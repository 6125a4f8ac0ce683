"""Streams made chunk by chunk, continued, switched and made again in part."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from .graphs import chunk_by_chunk, lite, node
from .pictures import pixels
from .server import ComfyServer, PromptFailed, PromptRejected, hum

PRO = {"checkpoint": "tiny/Model_Pro", "steps": 2}


def failure(server: ComfyServer, prompt: dict, node_id: str) -> str:
    with pytest.raises(PromptFailed) as caught:
        server.run(prompt)
    assert caught.value.event["node_id"] == node_id
    return caught.value.event["exception_message"].strip()


@pytest.mark.parametrize(
    ("chunks", "settings"),
    [(2, {}), (2, {"mode": "once"}), (2, PRO), (2, {"guidance": 2.0, "color_match": 0.5})],
    ids=["stream", "once", "pro", "guided"],
)
def test_composition_is_the_sampler_to_the_bit(server: ComfyServer, chunks: int, settings: dict):
    whole = pixels(server.images(server.run(lite(**settings)), "images"))
    entry = server.run(chunk_by_chunk(chunks, **settings))
    parts = [pixels(server.images(entry, f"images{chunk}")) for chunk in range(chunks)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_stream_goes_on_in_another_prompt(server: ComfyServer):
    """Half the audio, its state saved, and the other half later: as all of it at once."""
    frames = 2 * 24
    wave = hum(seconds=frames / 25)
    server.place_input("whole.wav", wave)
    whole = pixels(server.images(server.run(lite(speech="whole.wav")), "images"))
    cut = {
        f"half{part}": node("TrimAudioDuration", audio=["speech", 0], start_index=start, duration=n)
        for part, start, n in ((0, 0.0, 24 / 25), (1, 24 / 25, 24 / 25))
    }
    first = lite(speech="whole.wav") | cut
    first["audio"]["inputs"]["audio"] = ["half0", 0]
    first["save"] = node("FlashHeadSaveState", state=["sampler", 1], name="half way")
    begun = pixels(server.images(server.run(first), "images"))
    server.free()
    second = lite(speech="whole.wav") | cut
    second["audio"]["inputs"]["audio"] = ["half1", 0]
    second["state"] = node("FlashHeadLoadState", name="half way")
    del second["sampler"]["inputs"]["portrait"]
    second["sampler"]["inputs"]["state"] = ["state", 0]
    rest = pixels(server.images(server.run(second), "images"))
    assert np.abs(np.concatenate([begun, rest]) - whole).max() <= 1


def test_switching_the_portrait_changes_only_what_follows(server: ComfyServer):
    prompt = chunk_by_chunk(2)
    plain = server.run(prompt)
    prompt["flip"] = node("ImageFlip", image=["portrait", 0], flip_method="y-axis: horizontally")
    prompt["switch"] = node(
        "FlashHeadSwitchPortrait", state=["decode0", 1], vae=["load", 1], portrait=["flip", 0]
    )
    prompt["sample1"]["inputs"]["state"] = ["switch", 0]
    switched = server.run(prompt)
    before, after = (pixels(server.images(plain, f"images{chunk}")) for chunk in (0, 1))
    assert np.array_equal(before, pixels(server.images(switched, "images0")))
    assert np.abs(after - pixels(server.images(switched, "images1"))).max() > 1


def test_a_latent_can_be_replaced_between_sampling_and_decoding(server: ComfyServer):
    prompt = chunk_by_chunk(1)
    plain = pixels(server.images(server.run(prompt), "images0"))
    prompt["less"] = node("LatentMultiply", samples=["sample0", 0], multiplier=0.5)
    prompt["decode0"]["inputs"]["latent"] = ["less", 0]
    changed = pixels(server.images(server.run(prompt), "images0"))
    assert changed.shape == plain.shape
    assert np.abs(changed - plain).max() > 1


def test_generate_video_gives_the_samplers_frames_with_sound(server: ComfyServer):
    whole = pixels(server.images(server.run(lite()), "images"))
    entry = server.run(straight_to_video())
    (item,) = server.outputs(entry, "video")
    with av.open(str(server.output_path(item))) as video:
        found = np.stack([f.to_ndarray(format="rgb24") for f in video.decode(video=0)])
    with av.open(str(server.output_path(item))) as video:
        sound = sum(frame.samples / frame.sample_rate for frame in video.decode(audio=0))
    assert found.shape == whole.shape
    # Noise does not survive H.264's colour planes; means of 8x8 pixels do.
    blocks = [x.reshape(len(x), 8, 8, 8, 8, 3).mean((2, 4)) for x in (found, whole)]
    assert np.abs(blocks[0] - blocks[1]).mean() < 4
    assert sound == pytest.approx(1.5, abs=0.1)


def unfinished(server: ComfyServer) -> set[Path]:
    """The kept parts of cancelled videos: the server is shared, other tests cancel too."""
    return set((server.base / "output" / "video").glob("FlashHead_unfinished*.mp4"))


def straight_to_video(**settings) -> dict:
    """`lite` with a Generate Video in the Sampler's place."""
    prompt = lite(sampler="FlashHeadGenerateVideo", **settings)
    for name in ("create", "images"):
        del prompt[name]
    prompt["video"]["inputs"]["video"] = ["sampler", 0]
    return prompt


def temporary(server: ComfyServer) -> Path:
    """The folder where videos are written."""
    return Path(server.get("/system_stats")["system"]["argv"][-1]) / "temp"


def cancel_video(server: ComfyServer, seed: int) -> tuple[str, Path]:
    """Cancels a video after two chunks; the prompt, and the file whose name it had reserved."""
    server.place_input("long.wav", hum(seconds=120))
    before = set(temporary(server).glob("flashhead*.mp4"))
    prompt_id = server.queue(straight_to_video(speech="long.wav", seed=seed))
    for _ in range(2):
        server.wait_event("preview", prompt_id=prompt_id)
    (reserved,) = set(temporary(server).glob("flashhead*.mp4")) - before
    if seed % 2:
        reserved.write_bytes(b"another server's")
    server.interrupt()
    server.wait(prompt_id, timeout=10, check=False)
    assert server.events_of(prompt_id, "execution_interrupted")
    return prompt_id, reserved


def frames_of(path: Path) -> int:
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


def test_cancelled_video_is_kept_and_plays(server: ComfyServer):
    """Where the temporary folder is on another disk, too: see the fixture. What another server
    has meanwhile written under the name that was reserved is that server's."""
    kept_before = unfinished(server)
    _, reserved = cancel_video(server, seed=77)
    (kept,) = unfinished(server) - kept_before
    assert frames_of(kept) >= 24
    assert reserved.read_bytes() == b"another server's"


def test_a_cancelled_video_that_cannot_be_moved_stays_and_is_named(server: ComfyServer):
    """The interruption is what ends the prompt, whatever becomes of the video."""
    folder, aside = (server.base / "output" / name for name in ("video", "aside"))
    if folder.exists():
        folder.rename(aside)
    folder.write_text("no folder")
    try:
        prompt_id, reserved = cancel_video(server, seed=78)
    finally:
        folder.unlink()
        if aside.exists():
            aside.rename(folder)
    told = [event["data"]["text"] for event in server.events_of(prompt_id, "text")][-1]
    assert f"is in {reserved}, which ComfyUI deletes when it starts" in told
    assert frames_of(reserved) >= 24


def test_a_cached_video_whose_file_is_gone_is_made_again(server: ComfyServer):
    def run(name: str) -> bool:
        """Whether the sampler ran; the video must be saved whole."""
        prompt["video"]["inputs"]["filename_prefix"] = name
        prompt_id = server.queue(prompt)
        (item,) = server.outputs(server.wait(prompt_id), "video")
        assert frames_of(server.output_path(item)) == 38
        (cached,) = server.events_of(prompt_id, "execution_cached")
        return "sampler" not in cached["data"]["nodes"]

    prompt = straight_to_video(seed=79)
    before = set(temporary(server).iterdir())
    assert run("one") and not run("two")
    for path in set(temporary(server).iterdir()) - before:
        path.unlink()
    assert run("three") and not run("four")


# Incremental Sampler


def executed(server: ComfyServer, prompt_id: str, kind: str) -> int:
    """How many chunks went through a stage: each shows a line with the time that it took."""
    texts = [event["data"]["text"] for event in server.events_of(prompt_id, "text")]
    return sum(f"{kind} " in text for text in texts)


def incremental(server: ComfyServer, **settings) -> tuple[np.ndarray, int, int]:
    """Frames, and how many chunks were sampled and decoded for them."""
    prompt_id = server.queue(lite(sampler="FlashHeadIncrementalSampler", **settings))
    entry = server.wait(prompt_id, timeout=240)
    counts = [executed(server, prompt_id, kind) for kind in ("sample", "decode")]
    # A chunk that was kept is no sign of how fast they are made.
    assert executed(server, prompt_id, "real") == counts[0]
    return pixels(server.images(entry, "images")), *counts


def test_an_edit_renders_again_only_what_follows_it(server: ComfyServer):
    chunks = 5
    wave = bytearray(hum(seconds=chunks * 24 / 25))
    server.place_input("take1.wav", bytes(wave))
    first, *counts = incremental(server, speech="take1.wav", seed=5)
    assert counts == [chunks, chunks]
    whole = pixels(server.images(server.run(lite(speech="take1.wav", seed=5)), "images"))
    assert np.array_equal(first, whole)

    edit = 44 + 2 * int(16000 * (3 * 24 / 25 + 0.2))  # in chunk 3
    wave[edit : edit + 8000] = bytes(8000)
    server.place_input("take2.wav", bytes(wave))
    second, *counts = incremental(server, speech="take2.wav", seed=5)
    assert counts == [2, 2]
    assert np.array_equal(second[: 3 * 24], first[: 3 * 24])
    whole = pixels(server.images(server.run(lite(speech="take2.wav", seed=5)), "images"))
    assert np.array_equal(second, whole)

    longer = bytes(wave) + bytes(2 * 640 * 24)
    longer = longer[:4] + (len(longer) - 8).to_bytes(4, "little") + longer[8:]
    longer = longer[:40] + (len(longer) - 44).to_bytes(4, "little") + longer[44:]
    server.place_input("take3.wav", longer)
    third, *counts = incremental(server, speech="take3.wav", seed=5)
    assert counts == [1, 1]
    assert len(third) == (chunks + 1) * 24

    _, sampled, decoded = incremental(server, speech="take3.wav", seed=5, color_match=0.5)
    assert (sampled, decoded) == (chunks, chunks + 1)  # the first chunk's sampling is kept


def test_the_incremental_sampler_in_once_mode(server: ComfyServer):
    """Features of a whole clip change everywhere with any edit: nothing kept may be used."""
    found, *_ = incremental(server, mode="once", seed=6)
    assert np.array_equal(
        found, pixels(server.images(server.run(lite(mode="once", seed=6)), "images"))
    )


def test_two_incremental_samplers_of_one_model_keep_their_own(server: ComfyServer):
    """The portrait's twin says the same; then both say something else at the end."""
    wave = bytearray(hum(seconds=2 * 24 / 25))
    for name, wanted in (("duet1.wav", 4), ("duet2.wav", 2)):
        server.place_input(name, bytes(wave))
        prompt = lite(sampler="FlashHeadIncrementalSampler", speech=name, seed=8)
        second = prompt["sampler"]["inputs"] | {"seed": 9}
        prompt["twin"] = node("FlashHeadIncrementalSampler", **second)
        prompt["twins"] = node("SaveImage", images=["twin", 0], filename_prefix="twin")
        prompt_id = server.queue(prompt)
        server.wait(prompt_id, timeout=120)
        assert executed(server, prompt_id, "sample") == wanted
        wave[-20_000:] = bytes(20_000)  # in the last chunk


# Misuse, in one sentence


def test_a_state_before_decoding_cannot_be_sampled(server: ComfyServer):
    prompt = chunk_by_chunk(2)
    prompt["sample1"]["inputs"]["state"] = ["sample0", 1]
    assert "Decode Chunk" in failure(server, prompt, "sample1")


def test_a_state_that_is_not_sampled_cannot_be_decoded(server: ComfyServer):
    prompt = chunk_by_chunk(1)
    prompt["decode0"]["inputs"]["state"] = ["start", 0]
    assert "no sampled chunk" in failure(server, prompt, "decode0")


def test_a_chunk_past_the_audio_is_named(server: ComfyServer):
    prompt = chunk_by_chunk(1)
    prompt["sample0"]["inputs"]["chunk"] = 7
    assert "Chunk 7 was asked for" in failure(server, prompt, "sample0")


def test_a_latent_of_another_size_is_refused(server: ComfyServer):
    prompt = chunk_by_chunk(1)
    prompt["empty"] = node("EmptyLTXVLatentVideo", width=96, height=64, length=33, batch_size=1)
    prompt["decode0"]["inputs"]["latent"] = ["empty", 0]
    assert "The latent has shape" in failure(server, prompt, "decode0")


def test_a_stream_of_the_other_variant_is_refused(server: ComfyServer):
    prompt = chunk_by_chunk(1)
    prompt["pro"] = lite(**PRO)["load"]
    prompt["sample0"]["inputs"]["model"] = ["pro", 0]
    assert "other variant" in failure(server, prompt, "sample0")


@pytest.mark.parametrize("connected", ["nothing", "both"])
def test_a_sampler_wants_a_portrait_or_a_state(server: ComfyServer, connected: str):
    prompt = lite(seed=99)
    if connected == "nothing":
        del prompt["sampler"]["inputs"]["portrait"]
    else:
        prompt["start"] = chunk_by_chunk(1)["start"]
        prompt["sampler"]["inputs"]["state"] = ["start", 0]
    assert f"{connected} is connected" in failure(server, prompt, "sampler")


def test_a_portrait_of_another_size_cannot_be_switched_to(server: ComfyServer):
    prompt = chunk_by_chunk(1)
    prompt["wide"] = node("FlashHeadPreparePortrait", image=["picture", 0], width=96, height=64)
    prompt["switch"] = node(
        "FlashHeadSwitchPortrait", state=["start", 0], vae=["load", 1], portrait=["wide", 0]
    )
    prompt["sample0"]["inputs"]["state"] = ["switch", 0]
    assert "96x64 and the stream 64x64" in failure(server, prompt, "switch")


@pytest.mark.parametrize(
    ("name", "says"),
    [(name, "cannot be a state's name") for name in ("../elsewhere", "", ".hidden")]
    + [(name, ".safetensors cannot be written: ") for name in ("n" * 255, "null\0byte")],
)
def test_a_state_that_cannot_be_saved_is_refused_before_anything_runs(
    server: ComfyServer, name: str, says: str
):
    prompt = chunk_by_chunk(1)
    del prompt["images0"]  # which would run without the other
    prompt["save"] = node("FlashHeadSaveState", state=["start", 0], name=name)
    with pytest.raises(PromptRejected) as caught:
        server.queue(prompt)
    assert says in str(caught.value.messages("save"))


def test_a_state_that_was_never_saved_is_refused_before_anything_runs(server: ComfyServer):
    prompt = lite()
    prompt["state"] = node("FlashHeadLoadState", name="never saved")
    prompt["sampler"]["inputs"]["state"] = ["state", 0]
    with pytest.raises(PromptRejected) as caught:
        server.queue(prompt)
    assert "never saved" in str(caught.value.messages("state"))
    prompt = {"name": node("ProbeOddValue", kind="../never saved")}
    prompt["state"] = node("FlashHeadLoadState", name=["name", 0])
    prompt["out"] = node("PreviewAny", source=["state", 0])
    with pytest.raises(PromptFailed, match=r"No state '\.\./never saved' is in"):
        server.run(prompt)
