"""Audio guidance of the teacher: v = v_silent + scale * (v_audio - v_silent)."""

import pytest
import torch

import flashhead
from flashhead import LiveStream, Settings
from flashhead.models.generator import Generator
from flashhead.stream.loop import ChunkAudio
from flashhead.stream.sampling import draw_noise, plan_sampling, sample_latents


@pytest.fixture(scope="module")
def chunk(bundles, portrait):
    """What one chunk of the teacher starts from: bundle, state, audio context."""
    bundle = bundles["pretrained"]
    live = LiveStream(bundle, portrait, Settings(size=(32, 32)))
    samples = torch.randn(bundle.geometry.new_samples, generator=torch.Generator().manual_seed(1))
    context, state = live.loop.sampler.encode_audio(ChunkAudio(samples), live.state)
    return bundle, state, context


def sample(chunk, **options):
    bundle, state, context = chunk
    reference = state.portrait.latents
    plan = plan_sampling(bundle.generator, reference.shape, 3, sampler="euler", **options)
    noise, _ = draw_noise(state.rng, plan.draws, tuple(reference.shape[1:]))
    with torch.no_grad():
        audio = bundle.generator.embed_audio(context)
    return sample_latents(bundle.generator, plan, audio, reference, state.motion, noise)


def test_a_plan_lies_where_the_weights_do(bundles):
    with torch.device("meta"):
        generator = Generator(bundles["lite"].generator.config)
    plan = plan_sampling(generator, (1, *bundles["lite"].geometry.latent_shape((32, 32))))
    assert plan.rotary.device.type == "meta"


def test_it_is_the_formula(chunk):
    """Against Euler steps written out on the plain forward."""
    bundle, state, context = chunk
    reference, rng = state.portrait.latents, torch.Generator()
    rng.set_state(state.rng[0])
    x = torch.randn(reference.shape[1:], generator=rng)[None]
    raw = [1000.0, 500.5, 1.0, 0.0]
    sigmas = [5 * t / 1000 / (1 + 4 * t / 1000) for t in raw]
    for now, then in zip(sigmas, sigmas[1:], strict=False):
        x[:, :, :1] = state.motion
        t = torch.tensor([now * 1000])
        with torch.no_grad():
            spoken = bundle.generator(x, t, context, reference)
            silent = bundle.generator(x, t, torch.zeros_like(context), reference)
        x = x - (silent + 2.5 * (spoken - silent)) * (now - then)
    x[:, :, :1] = state.motion
    assert (sample(chunk, guidance=2.5) - x).abs().max() < 1e-4


def test_jointly_or_one_after_the_other_is_the_same(chunk):
    together = sample(chunk, guidance=3.0, joint_guidance=True)
    apart = sample(chunk, guidance=3.0, joint_guidance=False)
    assert (together - apart).abs().max() < 1e-4


@pytest.mark.parametrize(("guidance", "calls"), [(1.0, 3), (3.0, 3)])
def test_it_costs_one_call_a_step(chunk, guidance, calls, monkeypatch):
    """Off, a call of one sample; jointly, a call of two."""
    generator, batches = chunk[0].generator, []
    denoise = generator.denoise
    monkeypatch.setattr(
        generator, "denoise", lambda x, *rest: batches.append(len(x)) or denoise(x, *rest)
    )
    sample(chunk, guidance=guidance, joint_guidance=True)
    assert batches == [1 if guidance == 1 else 2] * calls


def test_the_variant_chooses_unless_told(bundles, portrait):
    frames = {}
    for guidance in (None, 3.0, 1.0):
        chunks = flashhead.generate(
            bundles["pretrained"],
            portrait,
            torch.ones(8000).cumsum(0).sin(),
            16_000,
            size=(32, 32),
            steps=2,
            guidance=guidance,
        )
        frames[guidance] = torch.cat([chunk.frames for chunk in chunks])
    assert torch.equal(frames[None], frames[3.0])
    assert not torch.equal(frames[None], frames[1.0])


@pytest.mark.parametrize("guidance", [-1.0, 21.0, float("nan")])
def test_bad_scales_are_refused(guidance):
    with pytest.raises(flashhead.FlashHeadError, match="guidance"):
        Settings(guidance=guidance)
