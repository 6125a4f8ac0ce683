"""Audio from memory and from files: any format, any layout, any length, one clear error."""

import math
import os
import subprocess
import sys

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flashhead.errors import AudioError
from flashhead.media.audio_source import FileAudio, TensorAudio, speech_blocks
from flashhead.media.video_writer import VideoWriter

from .sounds import encode, gather, tones, warnings_of, write_wav

# ---- memory


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 44101])
def test_tensor_comes_back_whole_and_again(channels, rate):
    waveform = tones(channels, rate * 2 + 17, rate)
    source = TensorAudio(waveform, rate)
    assert (source.channels, source.samples, source.sample_rate) == (channels, rate * 2 + 17, rate)
    assert torch.equal(gather(source), waveform)
    assert torch.equal(gather(source), waveform)


def test_tensor_is_not_copied():
    waveform = torch.zeros(2, 48000)
    source = TensorAudio(waveform, 48000)
    waveform[1, 40_000] = 0.5
    assert gather(source)[1, 40_000] == 0.5


@pytest.mark.parametrize(
    ("dtype", "low", "middle", "high"),
    [
        (np.int8, -128, 0, 64),
        (np.uint8, 0, 128, 192),
        (np.int16, -32768, 0, 16384),
        (">i2", -32768, 0, 16384),
        (np.uint16, 0, 32768, 49152),
        (np.int32, -(2**31), 0, 2**30),
        (np.int64, -(2**63), 0, 2**62),
        (np.float16, -1, 0, 0.5),
        (np.float64, -1, 0, 0.5),
    ],
)
def test_every_dtype_has_the_same_full_scale(dtype, low, middle, high):
    array = np.array([low, middle, high], dtype)
    array.setflags(write=False)
    expected = torch.tensor([[-1.0, 0.0, 0.5]])
    assert torch.equal(gather(TensorAudio(array, 16000)), expected)
    if array.dtype.isnative:
        assert torch.equal(gather(TensorAudio(torch.tensor(array), 16000)), expected)


def test_backward_views_and_gradients_are_fine():
    array = np.linspace(-1, 1, 100, dtype=np.float32)[::-1]
    assert gather(TensorAudio(array, 16000))[0, 0] == 1
    assert not gather(TensorAudio(torch.ones(5, requires_grad=True), 16000)).requires_grad


@pytest.mark.parametrize(
    ("waveform", "words"),
    [
        (torch.zeros(1, 2, 100), r"\(1, 2, 100\).*batch"),
        (torch.tensor(0.0), r"\(\)"),
        (torch.zeros(0), "empty"),
        (torch.zeros(2, 0), "empty"),
        (torch.zeros(48000, 2), "transpose"),
        (torch.zeros(100, dtype=torch.complex64), "complex"),
        (torch.zeros(100, dtype=torch.bool), "bool"),
        (np.array(["a", "b"]), "dtype"),
        ([0.0, 0.1], "list"),
        (np.full(100, 1e300), "infinity"),
    ],
)
def test_unusable_waveforms_are_named(waveform, words):
    with pytest.raises(AudioError, match=words):
        TensorAudio(waveform, 16000)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_sample_is_found_and_its_time_is_said(bad):
    waveform = torch.zeros(2, 16000 * 3)
    waveform[1, 40_000] = bad
    with pytest.raises(AudioError, match=r"2\.50 s"):
        TensorAudio(waveform, 16000)


@pytest.mark.parametrize(
    "rate",
    [0, -44100, 44100.5, None, "44100", True, math.nan, math.inf, 16, 10_000_000, [44100, 1]],
)
def test_sample_rate_must_be_a_plausible_whole_number(rate):
    with pytest.raises(AudioError, match=r"sample rate.*2000 to 768000"):
        TensorAudio(torch.zeros(10), rate)


@pytest.mark.parametrize("rate", [44100.0, np.float32(44100), np.int64(44100), torch.tensor(44100)])
def test_a_whole_rate_of_another_type_is_taken(rate):
    source = TensorAudio(torch.zeros(10), rate)
    assert source.sample_rate == 44100 and type(source.sample_rate) is int


@pytest.mark.parametrize("value", [1e5, -1e20, 3e38])
def test_what_the_aac_encoder_cannot_take_is_refused(value):
    waveform = torch.zeros(2, 16_000)
    waveform[1, 4000] = value
    with pytest.raises(AudioError, match=rf"{abs(value):.3g} at 0\.25 s".replace("+", r"\+")):
        TensorAudio(waveform, 16_000)


@pytest.mark.parametrize(("peak", "warned"), [(1.5, False), (20.0, True), (32_767.0, True)])
def test_samples_far_above_full_scale_are_warned_of_and_can_be_written(tmp_path, peak, warned):
    noise = torch.rand(1, 16_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with warnings_of() as said:
        source = TensorAudio(noise * peak, 16_000)
    assert bool(said) == warned and all("full scale is 1" in one for one in said)
    with VideoWriter(tmp_path / "a.mp4", height=16, width=16, audio=source) as writer:
        writer.write(torch.zeros(25, 16, 16, 3))


def speech_of(source):
    return torch.cat(list(speech_blocks(source, 1000)))[: source.samples]


@pytest.mark.parametrize("gains", [(1, -1), (-1, 1.02), (0.4, -1, 0.6)])
def test_channels_that_cancel_are_not_mixed(gains):
    voice = tones(1, 48_000, 16_000)
    source = TensorAudio(voice * torch.tensor(gains)[:, None], 16_000)
    with warnings_of() as said:
        found = speech_of(source)
    loudest = max(range(len(gains)), key=lambda channel: abs(gains[channel]))
    assert torch.allclose(found, voice[0] * gains[loudest])
    assert len(said) == 1 and "cancel" in said[0] and f"channel {loudest + 1}" in said[0]


@pytest.mark.parametrize("gains", [(1, -0.9), (1, 0), (1, 1), (0, 0), (1,) + (0,) * 31])
def test_other_channels_are_mixed_without_a_word(gains):
    waveform = tones(1, 48_000, 16_000) * torch.tensor(gains)[:, None]
    with warnings_of() as said:
        assert torch.equal(speech_of(TensorAudio(waveform, 16_000)), waveform.mean(0))
    assert not said


def test_channels_that_cancel_for_a_while_are_warned_of_and_mixed():
    waveform = tones(1, 160_000, 16_000).repeat(2, 1)
    waveform[1, 32_000:64_000] *= -1
    with warnings_of() as said:
        assert torch.equal(speech_of(TensorAudio(waveform, 16_000)), waveform.mean(0))
    assert len(said) == 1 and "cancel each other for 2 s" in said[0]


# ---- files


@pytest.mark.parametrize(
    ("name", "codec", "sample_format", "tolerance"),
    [
        ("a.wav", "pcm_s16le", "s16", 1e-4),
        ("a.wav", "pcm_u8", "u8", 1e-2),
        ("a.wav", "pcm_s24le", "s32", 1e-6),
        ("a.wav", "pcm_f32le", "flt", 0),
        ("a.wav", "pcm_f64le", "dbl", 0),
        ("a.flac", "flac", "s16", 1e-4),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_lossless_files_come_back_sample_for_sample(
    tmp_path, name, codec, sample_format, tolerance, channels
):
    waveform = tones(channels, 30_011, 22050)
    source = FileAudio(encode(tmp_path / name, waveform, 22050, codec, sample_format))
    assert (source.sample_rate, source.channels, source.samples) == (22050, channels, 30_011)
    assert (gather(source) - waveform).abs().max() <= tolerance
    assert torch.equal(gather(source), gather(source))


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp3", "libmp3lame"),
        ("a.m4a", "aac"),
        ("a.ogg", "libopus"),
        ("sound of a video.mp4", "aac"),
    ],
)
def test_lossy_files_keep_rate_channels_level_and_time(tmp_path, name, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    waveform = tones(2, 48_000, 48_000)
    source = FileAudio(encode(tmp_path / name, waveform, 48_000, codec))
    assert (source.sample_rate, source.channels) == (48_000, 2)
    assert 48_000 <= source.samples < 48_000 + 2400
    assert gather(source).shape == (2, source.samples)
    assert (gather(source)[:, 5000:40_000] - waveform[:, 5000:40_000]).abs().max() < 0.05


def test_channels_keep_their_order(tmp_path):
    waveform = torch.linspace(-0.9, 0.9, 6)[:, None].expand(6, 1000).contiguous()
    source = FileAudio(encode(tmp_path / "a.wav", waveform, 8000, "pcm_s16le", "s16"))
    assert (gather(source) - waveform).abs().max() < 1e-4


@pytest.mark.parametrize("channels", [6, 8, 16])
@pytest.mark.parametrize(
    ("name", "codec", "sample_format"),
    [("a.wav", "pcm_f32le", "flt"), ("a.m4a", "aac", "fltp")],
)
def test_many_channels_planar_or_not(tmp_path, name, codec, sample_format, channels):
    waveform = tones(channels, 24_000, 48_000)
    source = FileAudio(encode(tmp_path / name, waveform, 48_000, codec, sample_format))
    assert source.channels == channels
    found = gather(source)
    assert found.shape == (channels, source.samples)
    levels = found[:, 5000:20_000].square().mean(1).sqrt()
    expected = waveform[:, 5000:20_000].square().mean(1).sqrt()
    # AAC narrows the low-frequency channel and orders a discrete layout as it likes.
    kept = sorted(levels.tolist()) if codec == "aac" else levels.tolist()
    assert kept == pytest.approx(expected.tolist(), rel=0.2)


def test_a_file_that_changes_format_midway_stays_one_sound(tmp_path):
    first = encode(tmp_path / "a.aac", tones(2, 44_100, 44_100), 44_100, "aac")
    second = encode(tmp_path / "b.aac", tones(1, 22_050, 22_050), 22_050, "aac")
    joined = tmp_path / "joined.aac"
    joined.write_bytes(first.read_bytes() + second.read_bytes() + first.read_bytes())
    source = FileAudio(joined)
    found = gather(source)
    assert (source.sample_rate, source.channels) == (44_100, 2)
    assert source.samples == found.shape[1] == pytest.approx(3 * 44_100, abs=3 * 3000)
    # Well inside each of the three parts, half a second of 220 Hz crosses zero upwards 110 times.
    for start in (10_000, 56_000, 102_000):
        part = found[1, start : start + 22_050]
        assert int(((part[:-1] < 0) & (part[1:] >= 0)).sum()) == pytest.approx(110, abs=1)


def broken_files(folder):
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("these are the lyrics, not the song\n" * 50)
    (folder / "noise.mp3").write_bytes(bytes(range(256)) * 64)
    write_wav(folder / "nothing.wav", [])
    whole = write_wav(folder / "whole.wav", [1] * 1000).read_bytes()
    (folder / "header.wav").write_bytes(whole[:30])
    nan = torch.zeros(1, 9000)
    nan[0, 8000] = math.nan
    encode(folder / "nan.wav", nan, 16_000, "pcm_f32le", "flt")
    with av.open(str(folder / "silent film.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    (folder / "folder.wav").mkdir()
    (folder / "pointer.wav").write_text("version https://git-lfs.github.com/spec/v1")
    (folder / "page.wav").write_text("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.wav", "is not a file"),
        ("folder.wav", "is not a file"),
        ("empty.wav", "empty.wav"),
        ("text.wav", "cannot be read as audio"),
        ("noise.mp3", "noise.mp3"),
        ("pointer.wav", "git lfs pull"),
        ("page.wav", "web page"),
        ("nothing.wav", "empty or cut off"),
        ("header.wav", "header.wav"),
        ("nan.wav", r"NaN or infinity at 0\.50 s"),
        ("silent film.mp4", "no audio track"),
    ],
)
def test_unusable_files_are_named(tmp_path, name, words):
    broken_files(tmp_path)
    with pytest.raises(AudioError, match=words) as caught:
        FileAudio(tmp_path / name)
    assert name in str(caught.value)


def test_a_file_that_shrinks_in_use_is_noticed(tmp_path):
    source = FileAudio(write_wav(tmp_path / "a.wav", [7] * 16_000))
    write_wav(tmp_path / "a.wav", [7] * 8000)
    with pytest.raises(AudioError, match="16000.*8000"):
        gather(source)


def test_relative_paths_with_colons_and_foreign_tags_open(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = write_wav(tmp_path / "a.wav", [7] * 160).read_bytes()
    tag = b"LIST" + (4 + 8 + 6).to_bytes(4, "little") + b"INFOINAM" + (6).to_bytes(4, "little")
    tag += b"caf\xe9\x00\x00"
    total = (len(data) - 8 + len(tag)).to_bytes(4, "little")
    (tmp_path / "take:1.wav").write_bytes(data[:4] + total + data[8:36] + tag + data[36:])
    assert FileAudio("take:1.wav").samples == 160


MEMORY = """
import resource, sys
from flashhead.media.audio_source import FileAudio, speech_blocks
def walk(path):
    return sum(len(b) for b in speech_blocks(FileAudio(path), 15360))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
walk(sys.argv[1]); before = peak(); walk(sys.argv[2]); print((peak() - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_four_minutes_take_no_more_memory_than_ten_seconds(tmp_path):
    for name, seconds in (("short.wav", 10), ("long.wav", 240)):
        write_wav(tmp_path / name, np.zeros(seconds * 96_000), 96_000)
    command = [sys.executable, "-c", MEMORY, tmp_path / "short.wav", tmp_path / "long.wav"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    grown = int(done.stdout)
    assert grown < 25, f"{grown} MiB more; the whole would be 88 MiB"


# ---- 16 kHz for the audio encoder


@given(
    rate=st.sampled_from((8000, 16000, 22050, 44100, 48000, 44101)),
    channels=st.sampled_from((1, 2, 6)),
    samples=st.integers(320, 40_000),
    block=st.integers(1000, 20_000),
)
@settings(max_examples=40, deadline=None)
def test_speech_blocks_cover_the_sound_exactly(rate, channels, samples, block):
    blocks = list(speech_blocks(TensorAudio(torch.ones(channels, samples), rate), block))
    exact = -(-samples * 16000 // rate)
    assert len(blocks) == math.ceil(exact / block)
    assert all(b.shape == (block,) and b.dtype == torch.float32 for b in blocks)
    found = torch.cat(blocks)
    assert not found[exact:].any()
    middle = found[min(100, exact // 2) : max(exact - 100, exact // 2 + 1)]
    assert (middle - 1).abs().max() < 0.05


def test_speech_is_the_plain_mean_of_the_channels_bit_for_bit_at_16_khz():
    waveform = torch.randn(2, 40_000, generator=torch.Generator().manual_seed(0))
    found = torch.cat(list(speech_blocks(TensorAudio(waveform, 16000), 15_360)))
    assert torch.equal(found[:40_000], waveform.mean(0))
    mono = torch.cat(list(speech_blocks(TensorAudio(waveform[0], 16000), 15_360)))
    assert torch.equal(mono[:40_000], waveform[0])


def test_the_shortest_sound_is_one_block():
    (block,) = speech_blocks(TensorAudio(torch.ones(882), 44_100), 15_360)
    assert block[:320].abs().min() > 0.3
    assert not block[320:].any()


def test_a_file_and_its_samples_sound_the_same(tmp_path):
    path = encode(tmp_path / "a.wav", tones(2, 50_000, 44_100), 44_100, "pcm_f32le", "flt")
    from_file = torch.cat(list(speech_blocks(FileAudio(path), 5000)))
    from_memory = torch.cat(
        list(speech_blocks(TensorAudio(tones(2, 50_000, 44_100), 44_100), 5000))
    )
    assert torch.allclose(from_file, from_memory, atol=1e-6)


def test_blocks_of_nothing_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        next(speech_blocks(TensorAudio(torch.zeros(10), 16000), 0))
