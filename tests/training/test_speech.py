import ctypes
import math

import pytest
import torch

from flashhead.errors import FlashHeadError
from flashhead.training.speech import espeak as espeak_module
from flashhead.training.speech.espeak import Espeak, Utterance, espeak
from flashhead.training.speech.sentences import SENTENCES, sentences, voices
from flashhead.training.speech.tracks import (
    SpeechSettings,
    music,
    noise,
    speech_track,
    utterance_track,
)
from flashhead.training.speech.visemes import REST, mouth_track, viseme


def installed() -> bool:
    try:
        espeak()
    except FlashHeadError:
        return False
    return True


needs_espeak = pytest.mark.skipif(
    not installed(),
    reason="NOT TESTED WITH SPEECH: no espeak-ng library (apt-get install espeak-ng)",
)


def test_lips_shut_on_b_m_p_and_open_on_a():
    for name in ("b", "m", "p", "_", "_:", ""):
        assert viseme(name)[0][0] == 0, name
    assert viseme("A:")[0][0] > 0.8 and viseme("u:")[0][1] < 0.1 < 0.9 < viseme("i:")[0][1]
    for names in (("aI", "aU", "OI", "oU", "eI"), ("tS", "dZ")):
        assert all(len(viseme(name)) == 2 for name in names)
    assert viseme("?!")[0] not in (REST,)


def test_a_track_has_each_phoneme_at_its_time():
    # Closed, wide open from 0.4 s to 0.6 s, closed.
    track = [(0.0, "_"), (0.4, "A:"), (0.6, "m"), (0.8, "_")]
    openness, width = mouth_track(track, 1.2, 30)
    assert openness.shape == width.shape == (30,)
    frames = torch.arange(30)
    middle = float((openness * (frames + 0.5)).sum() / openness.sum()) / 25
    assert middle == pytest.approx(0.5, abs=0.005)
    assert openness[12] > 0.95 and openness[:8].max() < 0.01 and openness[17:].max() < 0.01


def test_a_diphthong_moves_from_its_first_shape_to_its_second():
    openness, width = mouth_track([(0.0, "aU")], 0.28, 7)
    assert openness[1] > openness[5] and width[1] > width[5]


def test_smoothing_is_of_28_milliseconds():
    """An edge's rise from 16 % to 84 % takes two standard deviations."""
    openness, _ = mouth_track([(0.0, "_"), (0.5, "A")], 0.8, 20)
    fine = torch.nn.functional.interpolate(
        openness.view(1, 1, -1), scale_factor=40, mode="linear", align_corners=False
    )[0, 0]
    rise = ((fine > 0.16) & (fine < 0.84))[: 20 * 40 * 6 // 8].sum() / 1000
    box = 0.04 / math.sqrt(12)  # a frame averages over its 40 ms, and so does the line between
    expected = 2 * math.sqrt(0.028**2 + 2 * box**2)
    assert float(rise) == pytest.approx(expected, rel=0.25)


def test_held_out_sentences_and_voices_are_never_trained_on():
    for language in SENTENCES:
        for choose in (sentences, voices):
            seen, unseen = choose(language), choose(language, held_out=True)
            assert seen and unseen and not set(seen) & set(unseen)


def test_utterances_become_whole_frames():
    said = Utterance(torch.zeros(22_050), 22_050, ((0, "_"), (2205, "A:"), (11_025, "_")))
    track = utterance_track(said)
    assert track.frames == 25 and len(track.waveform) == 16_000
    assert track.openness[3] > 0.8 and track.openness[20] == 0


def test_sounds_are_of_unit_size_and_their_seed_fixes_them():
    for make in (noise, music):
        first, second = (make(8000, torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(first, second) and first.isfinite().all()
        assert 0.1 < first.abs().max() < 6


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(FlashHeadError, match="apt-get install espeak-ng"):
        Espeak()
    assert espeak_module.espeak.cache_info is not None


@needs_espeak
def test_an_unknown_voice_is_named():
    with pytest.raises(FlashHeadError, match="no voice 'xx-nobody'"):
        espeak().say("hello", "xx-nobody")


@needs_espeak
def test_every_voice_speaks():
    for language in SENTENCES:
        for held_out in (False, True):
            for voice in voices(language, held_out=held_out):
                said = espeak().say("papa", voice)
                assert said.waveform.abs().max() > 0.05 and len(said.phonemes) > 3, voice


@needs_espeak
def test_phonemes_come_at_the_times_of_their_sounds():
    """Before a p there is silence, after it a loud vowel."""
    said = espeak().say("papapapa", "en-us+m1", words_per_minute=120)
    names = [name for _, name in said.phonemes]
    assert names.count("p") == 4
    loudness = said.waveform.abs()
    for (start, name), (end, _) in zip(said.phonemes, said.phonemes[1:], strict=False):
        if name == "p" and start > said.rate // 10:
            closure = loudness[start : start + (end - start) // 3].max()
            vowel = loudness[end : end + said.rate // 20].max()
            assert closure < 0.35 * vowel
    starts = [start for start, _ in said.phonemes]
    assert starts == sorted(starts) and starts[-1] <= len(said.waveform)


@needs_espeak
def test_tracks_follow_their_seed_and_the_mouth_moves_with_the_sound():
    """Not to the sample: the library's own phase goes on from one utterance to the next."""
    plain = SpeechSettings(noise=0, music=0, silence=0)
    first, second = (speech_track(60, torch.Generator().manual_seed(8), plain) for _ in range(2))
    assert (first.openness - second.openness).abs().mean() < 0.02
    track = speech_track(200, torch.Generator().manual_seed(8), plain)
    loudness = track.waveform.view(200, 640).square().mean(1).sqrt()
    assert torch.corrcoef(torch.stack([loudness, track.openness]))[0, 1] > 0.4
    assert track.openness[loudness < 1e-4].mean() < 0.1


@needs_espeak
def test_silence_noise_and_music_leave_the_mouth_closed():
    track = speech_track(
        60, torch.Generator().manual_seed(0), SpeechSettings(silence=1, noise=1, music=1)
    )
    assert track.openness.max() == 0 and track.waveform.abs().max() > 0
    quiet = speech_track(
        60, torch.Generator().manual_seed(0), SpeechSettings(silence=1, noise=0, music=0)
    )
    assert quiet.waveform.abs().max() == 0
