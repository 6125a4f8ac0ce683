"""Stage 2: losses by hand, the sampler's own steps, and gradients that stop where they should."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from flashhead.image.color import color_target
from flashhead.stream.loop import ChunkAudio, ChunkLoop
from flashhead.stream.sampling import plan_sampling, sample_latents
from flashhead.stream.settings import Settings
from flashhead.training.distillation.dmd import (
    ScoreDraws,
    dmd_gradient,
    dmd_loss,
    fake_score_loss,
    guided_velocity,
    noise_with_motion,
    regression_loss,
)
from flashhead.training.distillation.losses import (
    DistillationSettings,
    StudentStart,
    fake_losses,
    start_student,
    student_losses,
)
from flashhead.training.distillation.rollout import (
    latent_motion,
    pixel_motion,
    roll_out,
    sample_truncated,
)
from flashhead.training.flow.matching import new_frames
from flashhead.training.networks.initialisation import frozen, new_generator

from .small import CONFIG, Calls, chunk, generator, gradients, rng

COLORS = color_target(torch.zeros(1, 3, 1, 4, 4))
SETTINGS = DistillationSettings()


def start(seed: int = 0) -> StudentStart:
    """A last chunk whose own motion frames are not the ground truth's."""
    truth = chunk(seed=seed)
    motion = chunk(seed=seed + 50).latents[:, :, :2]
    return StudentStart(truth, motion, truth.latents[:, :, :2])


def test_the_gradient_by_hand():
    student, real, fake = (
        torch.tensor(v, dtype=torch.float32).view(1, 1, 3, 1, 1)
        for v in ([7, 1, 3], [0, 0, 1], [9, 2, 2])
    )
    new = new_frames(torch.tensor([1]), student)
    gradient = dmd_gradient(student, real, fake, new)
    # |student - real| over the new frames is 1 and 2, on average 1.5.
    assert gradient.flatten().tolist() == pytest.approx([0, 2 / 1.5, 1 / 1.5])


def test_samples_are_normalised_apart():
    student = torch.zeros(2, 1, 2, 1, 1)
    real = torch.tensor([1.0, 100.0]).view(2, 1, 1, 1, 1).expand_as(student)
    gradient = dmd_gradient(student, real, 3 * real, torch.ones(1, 1, 2, 1, 1))
    torch.testing.assert_close(gradient, torch.full_like(gradient, 2.0))


def test_the_losss_gradient_is_the_dmd_gradient():
    student = torch.randn(1, 2, 3, 1, 1, requires_grad=True)
    gradient = torch.randn(1, 2, 3, 1, 1)
    new = new_frames(torch.tensor([1]), student)
    dmd_loss(student, gradient, new).backward()
    torch.testing.assert_close(student.grad, gradient * new / 4)


def test_regression_by_hand():
    student, truth = torch.tensor([9.0, 1, 2]), torch.tensor([0.0, 0, 4])
    student, truth = (v.view(1, 1, 3, 1, 1) for v in (student, truth))
    new = new_frames(torch.tensor([1]), student)
    assert regression_loss(student, truth, new).item() == pytest.approx((1 + 4) / 2)


def test_guidance_by_hand():
    network, truth, sigma = generator(), chunk(), torch.tensor([0.5])
    silent = replace(truth, context=torch.zeros_like(truth.context))
    loud, quiet = (guided_velocity(network, truth.latents, sigma, c, 1.0) for c in (truth, silent))
    assert (loud - quiet).abs().max() > 1e-3
    guided = guided_velocity(network, truth.latents, sigma, truth, 3.0)
    torch.testing.assert_close(guided, quiet + 3 * (loud - quiet))


def test_the_fake_score_learns_flow_matching_on_the_students_latents():
    """A new generator says velocity 0, so its loss is the target's mean square."""
    fake, at = new_generator(CONFIG, rng()), start()
    student = torch.randn(at.chunk.latents.shape, generator=rng(3), requires_grad=True)
    draws = ScoreDraws.draw(student.shape, rng(4))
    calls = Calls(fake)
    loss = fake_score_loss(fake, student, at.chunk, at.motion, draws, at.new)
    by_hand = (draws.noise - student)[:, :, 2:].square().mean()
    torch.testing.assert_close(loss, by_hand)
    x = calls.inputs[0][0]
    torch.testing.assert_close(x[:, :, :2], at.motion)
    sigma = draws.sigma
    torch.testing.assert_close(
        x[:, :, 2:], sigma * draws.noise[:, :, 2:] + (1 - sigma) * student[:, :, 2:].detach()
    )
    loss.backward()
    assert student.grad is None and gradients(fake)


def test_score_sigmas_keep_off_the_ends():
    sigma = ScoreDraws.draw((4000, 1, 1, 1, 1), rng()).sigma
    assert 0.02 <= sigma.min() and sigma.max() <= 0.98
    assert sigma.median() > 0.75  # shifted to noise: uniform would be 0.5


def test_the_last_step_of_the_truncated_sampler_is_the_samplers_result():
    network, at = generator(), start()
    noise = torch.randn(5, *at.chunk.latents.shape, generator=rng())
    plan = plan_sampling(network, at.chunk.reference.shape)
    audio = network.embed_audio(at.chunk.context)
    whole = sample_latents(network, plan, audio, at.chunk.reference, at.motion, noise)
    made = sample_truncated(network, at.chunk, at.motion, noise[:4], exit_step=3)
    torch.testing.assert_close(made, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("exit_step", range(4))
def test_only_the_exit_step_has_gradients(exit_step):
    network, at = generator(), start()
    noise = torch.randn(exit_step + 1, *at.chunk.latents.shape, generator=rng())
    noise.requires_grad_(True)
    calls = Calls(network)
    made = sample_truncated(network, at.chunk, at.motion, noise, exit_step)
    assert calls.with_grad == [False] * exit_step + [True]
    made.sum().backward()
    reached = [bool(g.any()) for g in noise.grad]
    assert reached == [False] * exit_step + [True]
    assert gradients(network)


def test_without_gradients_wanted_there_are_none():
    network, at = generator(), start()
    with torch.no_grad():
        noise = torch.randn(2, *at.chunk.latents.shape, generator=rng())
        assert not sample_truncated(network, at.chunk, at.motion, noise, 1).requires_grad


def test_earlier_chunks_get_no_gradient_but_shape_the_last_one():
    student = generator()
    chunks = [chunk(seed=n) for n in range(3)]
    for c in chunks:
        c.context.requires_grad_(True)
    at = start_student(student, chunks, latent_motion, COLORS, SETTINGS, rng(1))
    assert not at.motion.requires_grad
    assert not torch.equal(at.motion, at.oracle)
    torch.testing.assert_close(at.oracle, chunks[2].latents[:, :, :2])
    frozen_score = frozen(student)
    losses = student_losses(student, frozen_score, frozen_score, at, SETTINGS, rng(2))
    losses["loss"].backward()
    assert chunks[2].context.grad.any()
    assert chunks[0].context.grad is None and chunks[1].context.grad is None


def test_a_student_update_reaches_the_student_alone():
    student, real, fake = generator(0), frozen(generator(2)), generator(4)
    student_losses(student, real, fake, start(), SETTINGS, rng())["loss"].backward()
    assert gradients(student)
    assert not gradients(fake) and not gradients(real)
    assert not any(p.requires_grad for p in real.parameters())


def test_a_fake_score_update_reaches_the_fake_score_alone():
    student, fake = generator(0), generator(4)
    fake_losses(student, fake, start(), SETTINGS, rng())["loss"].backward()
    assert gradients(fake) and not gradients(student)


@pytest.mark.parametrize("oracle", [True, False])
def test_the_real_score_sees_ground_truth_motion_unless_it_is_switched_off(oracle):
    student, real, fake, at = generator(0), generator(2), generator(4), start()
    seen, beside = Calls(real), Calls(fake)
    settings = DistillationSettings(oracle=oracle)
    student_losses(student, real, fake, at, settings, rng())
    assert len(seen.inputs) == 2  # with audio and silent
    for x, *_ in seen.inputs:
        torch.testing.assert_close(x[:, :, :2], at.oracle if oracle else at.motion)
        assert not torch.equal(x[:, :, :2], at.motion if oracle else at.oracle)
    assert [bool(context.any()) for _, _, context, _ in seen.inputs] == [True, False]
    torch.testing.assert_close(beside.inputs[0][0][:, :, :2], at.motion)
    # Past the motion frames both see the same noisy latents of the student.
    torch.testing.assert_close(beside.inputs[0][0][:, :, 2:], seen.inputs[0][0][:, :, 2:])


def test_cold_start_gives_one_frame():
    cold = DistillationSettings(cold_start=1.0)
    at = start_student(generator(), [chunk()], latent_motion, COLORS, cold, rng())
    assert at.motion.shape[2] == 1 and at.new.flatten().tolist() == [0, 1, 1, 1, 1]
    never = DistillationSettings(cold_start=0.0)
    at = start_student(generator(), [chunk()], latent_motion, COLORS, never, rng())
    torch.testing.assert_close(at.motion, chunk().latents[:, :, :2])


def test_a_rollout_is_inferences_loop(bundle):
    """Decode, match colours, encode the last frames again: as the chunk loop does it."""
    geometry, network = bundle.geometry, bundle.generator
    loop = ChunkLoop(bundle, Settings(size=(64, 64), seed=7))
    state = loop.start(torch.rand(3, 64, 64, generator=rng()) * 2 - 1)
    portrait = state.portrait
    audio = torch.randn(2, 1, 33, 5, 1, network.config.audio_width, generator=rng())
    history = [replace(chunk(), reference=portrait.latents, context=c) for c in audio]
    draws = torch.Generator().manual_seed(7)
    for c in history:
        part = ChunkAudio(torch.zeros(geometry.new_samples), context=c.context)
        sampled, state = loop.sampler.sample(part, state)
        _, state = loop.decoder.decode(sampled, state)
    latents = sampled.latents
    next_motion = partial(pixel_motion, bundle.vae, geometry)
    first = portrait.latents[:, :, :1]
    motion = roll_out(network, history, first, next_motion, portrait.color, draws)
    torch.testing.assert_close(motion, state.motion)
    plain = next_motion(latents, portrait.color, color_match=0.0)
    assert (plain - motion).abs().max() > 1e-3


def test_latent_motion_hands_on_the_last_latents():
    latents = chunk().latents
    assert torch.equal(latent_motion(latents, COLORS), latents[:, :, -2:])


def test_noise_with_motion_keeps_motion_clean():
    latents, motion = chunk().latents, chunk(seed=1).latents[:, :, :1]
    draws = ScoreDraws(torch.ones_like(latents), torch.tensor([0.25]))
    x = noise_with_motion(latents, motion, draws)
    torch.testing.assert_close(x[:, :, :1], motion)
    torch.testing.assert_close(x[:, :, 1:], 0.25 + 0.75 * latents[:, :, 1:])
