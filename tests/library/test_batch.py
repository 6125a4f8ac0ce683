"""Several sessions in one call give what each gives alone."""

import pytest
import torch
from PIL import Image, ImageOps

import flashhead
from flashhead import FlashHeadError, Session, Settings, generate_batch


@pytest.fixture
def sessions(portrait):
    """Three speakers who differ in everything: lengths of one, two and three Lite chunks."""
    rng = torch.Generator().manual_seed(5)
    picture = Image.open(portrait).convert("RGB")
    return [
        Session(picture, torch.randn(44_000, generator=rng), 16_000, seed=1),
        Session(ImageOps.mirror(picture), torch.randn(9_000, generator=rng), 16_000, seed=2),
        Session(ImageOps.flip(picture), torch.randn(2, 60_000, generator=rng), 44_100, seed=3),
    ]


@pytest.mark.parametrize("variant", ["lite", "pro", "pretrained"])
def test_a_batch_gives_what_its_sessions_give_alone(variant, bundles, sessions):
    bundle, steps = bundles[variant], 2
    together: list[list[flashhead.Chunk]] = [[] for _ in sessions]
    for chunks in generate_batch(bundle, sessions, Settings(size=(32, 32), steps=steps)):
        assert len(chunks) == len(sessions)
        for kept, chunk in zip(together, chunks, strict=True):
            if chunk is not None:
                kept.append(chunk)
    for session, chunks in zip(sessions, together, strict=True):
        alone = list(
            flashhead.generate(
                bundle,
                session.portrait,
                session.waveform,
                session.sample_rate,
                size=(32, 32),
                seed=session.seed,
                steps=steps,
            )
        )
        assert [(c.index, c.start) for c in chunks] == [(c.index, c.start) for c in alone]
        for chunk, expected in zip(chunks, alone, strict=True):
            # A network of random weights magnifies the rounding that it is fed back as motion.
            bound = 1e-4 if chunk.index == 0 else 1e-3
            assert (chunk.frames - expected.frames).abs().max() < bound


def test_a_session_that_is_over_is_none_and_costs_nothing(bundle, sessions, monkeypatch):
    batches = []
    decode = bundle.vae.decode
    monkeypatch.setattr(
        bundle.vae, "decode", lambda latents: batches.append(len(latents)) or decode(latents)
    )
    told = list(generate_batch(bundle, sessions, Settings(size=(32, 32), steps=1)))
    assert [[chunk is not None for chunk in chunks] for chunks in told] == [
        [True, True, True],
        [True, False, True],
        [True, False, False],
    ]
    assert batches == [3, 2, 1]


def test_bad_sessions_are_refused_at_the_call(bundle, sessions):
    with pytest.raises(FlashHeadError, match="no sessions"):
        generate_batch(bundle, [])
    with pytest.raises(FlashHeadError, match="empty"):
        generate_batch(bundle, [*sessions, Session(sessions[0].portrait, torch.empty(0), 16_000)])
    with pytest.raises(FlashHeadError, match="seed"):
        generate_batch(bundle, [Session(sessions[0].portrait, torch.ones(9), 16_000, seed=-1)])
