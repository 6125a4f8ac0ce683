"""Sound that breaks off, is damaged, joined or none: what can be had, and one sentence."""

import contextlib
import random
import re
import time

import av
import pytest
import torch

from flashhead.errors import AudioError
from flashhead.media.audio_source import FileAudio, speech_blocks
from flashhead.media.video_writer import VideoWriter

from .sounds import CODECS, encode, gather, hiss, sound_file, tones, warnings_of, write_wav


@pytest.mark.parametrize("name", CODECS)
def test_whole_files_are_read_without_a_word(tmp_path, name):
    with warnings_of() as said:
        assert FileAudio(sound_file(tmp_path, name, 2)).samples >= 96_000
    assert not said


@pytest.mark.parametrize("name", [*CODECS][:6])
def test_a_file_cut_off_in_the_middle_gives_what_is_there_and_says_so(tmp_path, name):
    path = sound_file(tmp_path, name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with warnings_of() as said:
        source = FileAudio(path)
    seconds = source.samples / 48_000
    assert seconds == pytest.approx(2, abs=0.15)
    assert gather(source).shape[1] == source.samples
    whole = "" if name == "a.opus" else r" of 4\.0\d s"  # an Ogg file knows no length
    (sentence,) = said
    assert re.search(rf"{name}: the sound breaks off at {seconds:.2f} s{whole};", sentence)


@pytest.mark.parametrize("name", ["a.mp3", "a.opus", "a.aac", "a.m4a"])
def test_sound_that_is_lost_in_the_middle_is_said(tmp_path, name):
    path = sound_file(tmp_path, name)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = random.Random(0).randbytes(3000)
    path.write_bytes(data)
    with warnings_of() as said:
        source = FileAudio(path)
    assert 2.5 < source.samples / 48_000 < 4
    (sentence,) = said
    at = re.search(r"some sound at ([\d.]+) s.* is missing or cannot be decoded", sentence)
    assert float(at[1]) == pytest.approx(2, abs=0.1)


def test_tags_between_joined_mp3s_are_no_damage(tmp_path):
    data = sound_file(tmp_path, "a.mp3", 2).read_bytes()
    (tmp_path / "b.mp3").write_bytes(data + data + b"TAG" + bytes(125))
    with warnings_of() as said:
        assert FileAudio(tmp_path / "b.mp3").samples == pytest.approx(4 * 48_000, abs=5000)
    assert not said


@pytest.mark.parametrize("kinds", [[(1, 48_000), (2, 48_000)], [(2, 16_000), (1, 48_000)] * 2])
def test_chained_ogg_files_are_read_whole(tmp_path, kinds):
    """Joined recordings, which may change their channels."""
    joined = tmp_path / "joined.opus"
    with joined.open("wb") as file:
        for channels, rate in kinds:
            part = sound_file(tmp_path, "a.opus", 2, channels, rate)
            file.write(part.read_bytes())
    with warnings_of() as said:
        source = FileAudio(joined)
    assert source.channels == kinds[0][0] and not said
    assert source.samples == 2 * 48_000 * len(kinds)
    for part in gather(source).split(2 * 48_000, 1):
        assert part[:, 5000:-5000].square().mean().sqrt() > 0.1


def test_joined_wav_files_are_read_whole(tmp_path):
    data = sound_file(tmp_path, "a.wav", 1).read_bytes()
    (tmp_path / "b.wav").write_bytes(data * 3)
    with warnings_of() as said:
        found = gather(FileAudio(tmp_path / "b.wav"))
    assert torch.equal(found, gather(FileAudio(tmp_path / "a.wav")).repeat(1, 3)) and not said


def test_a_hole_in_the_clock_is_no_end(tmp_path):
    with (
        av.open(str(sound_file(tmp_path, "a.m4a"))) as given,
        av.open(str(tmp_path / "b.m4a"), "w") as made,
    ):
        (track,) = given.streams.audio
        stream = made.add_stream_from_template(track)
        for packet in given.demux(track):
            if packet.dts is not None:
                later = 48_000 * (packet.dts > 96_000)
                packet.pts, packet.dts, packet.stream = (
                    packet.pts + later,
                    packet.dts + later,
                    stream,
                )
                made.mux(packet)
    with warnings_of() as said:
        assert FileAudio(tmp_path / "b.m4a").samples == pytest.approx(4 * 48_000, abs=2000)
    assert len(said) == 1 and re.search(r"some sound at 2\.\d\d s is missing", said[0])


def two_tracks(path, unknown):
    """One tone in two tracks of a .mov; what says the codec of one is replaced."""
    with av.open(str(path), "w") as container:
        for codec, sample_format in (("pcm_s16le", "s16"), ("aac", "fltp")):
            container.add_stream(codec, rate=48_000, layout="mono").format = sample_format
        for stream in container.streams.audio:
            frame = av.AudioFrame.from_ndarray(
                tones(1, 48_000, 48_000).numpy(), format="flt", layout="mono"
            )
            frame.sample_rate, frame.pts = 48_000, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    data = path.read_bytes()
    assert unknown in data
    path.write_bytes(data.replace(unknown, b"zzzz"))
    return path


def test_the_next_track_that_can_be_decoded_is_used(tmp_path):
    with warnings_of() as said:
        source = FileAudio(two_tracks(tmp_path / "a.mov", b"sowt"))
    assert gather(source)[:, 5000:40_000].abs().max() > 0.05
    assert len(said) == 1 and "audio track 2 is used" in said[0]
    with warnings_of() as said:
        FileAudio(two_tracks(tmp_path / "b.mov", b"mp4a"))
    assert not said


def test_an_implausible_rate_is_refused_before_any_work(tmp_path):
    for rate in (16, 10_000_000):
        with pytest.raises(AudioError, match=f"a.wav has a sample rate of {rate} Hz.*2000 to"):
            FileAudio(write_wav(tmp_path / "a.wav", [7] * 500_000, rate))


def test_a_spike_in_a_file_is_refused_with_its_time(tmp_path):
    waveform = torch.zeros(1, 9000)
    waveform[0, 8000] = 1e20
    encode(tmp_path / "a.wav", waveform, 16_000, "pcm_f32le", "flt")
    with pytest.raises(AudioError, match=r"a\.wav holds a sample of 1e\+20 at 0\.50 s"):
        FileAudio(tmp_path / "a.wav")


def mutated(data, chance):
    data = bytearray(data)
    for _ in range(chance.choice((1, 2, 5, 40))):
        at = chance.randrange(min(len(data), 200) if chance.random() < 0.6 else len(data))
        change = chance.randrange(4)
        if change == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif change == 1:
            data[at : at + 4] = chance.choice(
                (bytes(4), b"\xff" * 4, b"\x10\0\0\0", b"\0\0\x80\x7f")
            )
        elif change == 2:
            del data[at : at + chance.randrange(1, 64)]
        else:
            data[at:at] = chance.randbytes(chance.randrange(1, 16))
    return data


@pytest.mark.parametrize("name", [*CODECS, "float.wav"])
def test_mutated_files_give_a_video_or_one_error(tmp_path, name):
    if name == "float.wav":
        whole = encode(tmp_path / name, hiss(2, 1, 8000), 8000, "pcm_f32le", "flt").read_bytes()
    else:
        whole = sound_file(tmp_path, name, 1, rate=16_000 if name != "a.opus" else 48_000)
        whole = whole.read_bytes()
    chance = random.Random(name)
    for _ in range(3):
        (tmp_path / name).write_bytes(mutated(whole, chance))
        started = time.monotonic()
        with warnings_of(), contextlib.suppress(AudioError):
            source = FileAudio(tmp_path / name)
            assert all(block.isfinite().all() for block in speech_blocks(source, 15_360))
            with VideoWriter(tmp_path / "a.mp4", height=16, width=16, audio=source) as writer:
                writer.write(torch.zeros(1, 16, 16, 3))
        assert time.monotonic() - started < 5
