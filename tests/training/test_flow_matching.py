"""Stage 1's conventions are the sampler's: sigma 1 is noise, velocity is noise minus clean."""

import torch
from torch import Tensor

from flashhead.stream.sampling import SamplingPlan, sample_latents, timesteps
from flashhead.training.flow.matching import (
    FlowDraws,
    add_noise,
    draw_motion,
    new_frames,
    predict_clean,
    predict_flow,
    shift_sigma,
)

from .small import Calls, chunk, generator, rng


def test_sigma_1_is_noise_and_0_is_clean():
    clean, noise = torch.randn(2, 3, 2, 1, 1), torch.randn(2, 3, 2, 1, 1)
    x = add_noise(clean, noise, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(x[0], clean[0])
    torch.testing.assert_close(x[1], noise[1])


def test_the_target_velocity_points_to_the_clean_latents():
    clean, noise, sigma = torch.randn(2, 3, 2, 1, 1), torch.randn(2, 3, 2, 1, 1), torch.rand(2)
    x = add_noise(clean, noise, sigma)
    torch.testing.assert_close(predict_clean(x, noise - clean, sigma), clean)


def test_the_sampler_follows_the_target_velocity_to_the_clean_latents():
    """Both samplers of inference, given exactly what stage 1 teaches, end at the truth."""
    batch = chunk()
    noise = torch.randn(5, *batch.latents.shape, generator=rng())
    draws = FlowDraws(noise[0], torch.tensor([0.7]), torch.tensor([2]), torch.tensor([True]))
    taught = predict_flow(generator(), batch, draws).target

    class Taught:
        """At sigma, the noise in x is what is left when the clean latents are taken out."""

        def __call__(self, x: Tensor, sigma: float, _audio, _reference, _rotary) -> Tensor:
            return (x - batch.latents) / sigma

    sigmas = timesteps(4) / 1000
    torch.testing.assert_close(
        Taught()(add_noise(batch.latents, noise[0], sigmas[1:2]), sigmas[1], 0, 0, 0),
        taught,
    )
    for sampler in ("renoise", "euler"):
        plan = SamplingPlan(
            sigmas=tuple(sigmas.tolist()),
            time=_Sigmas(sigmas),
            rotary=None,
            sampler=sampler,
            guidance=None,
        )
        motion = batch.latents[:, :, :2]
        made = sample_latents(Taught(), plan, None, batch.reference, motion, noise)
        torch.testing.assert_close(made, batch.latents, atol=1e-4, rtol=1e-4)


class _Sigmas:
    """Stands where the sampler keeps its time condition: gives the step's sigma."""

    def __init__(self, sigmas: Tensor):
        self.sigmas = sigmas

    def __getitem__(self, step: slice) -> float:
        return float(self.sigmas[step])


def test_the_shift_is_the_samplers():
    even = torch.tensor([1.0, 0.75, 0.5, 0.25])
    torch.testing.assert_close(shift_sigma(even, 5.0) * 1000, timesteps(4)[:4])


def test_motion_frames_go_in_clean_and_the_timestep_is_a_thousand_sigmas():
    batch, network = chunk(batch=2), generator()
    calls = Calls(network)
    draws = FlowDraws(
        noise=torch.randn(batch.latents.shape, generator=rng()),
        sigma=torch.tensor([0.25, 1.0]),
        motion=torch.tensor([1, 2]),
        with_audio=torch.tensor([True, False]),
    )
    prediction = predict_flow(network, batch, draws)
    x, timestep, context, reference = calls.inputs[0]
    torch.testing.assert_close(timestep, torch.tensor([250.0, 1000.0]))
    torch.testing.assert_close(x[0, :, :1], batch.latents[0, :, :1])
    torch.testing.assert_close(
        x[0, :, 1:], 0.25 * draws.noise[0, :, 1:] + 0.75 * batch.latents[0, :, 1:]
    )
    torch.testing.assert_close(x[1, :, :2], batch.latents[1, :, :2])
    torch.testing.assert_close(x[1, :, 2:], draws.noise[1, :, 2:])
    torch.testing.assert_close(context[0], batch.context[0])
    assert not context[1].any()
    torch.testing.assert_close(reference, batch.reference)
    assert not prediction.error[0, :, :1].any() and prediction.error[0, :, 1:].all()
    torch.testing.assert_close(prediction.clean[1, :, :2], batch.latents[1, :, :2])


def test_a_tenth_of_the_chunks_start_cold():
    motion = draw_motion(20_000, 0.1, rng())
    assert set(motion.tolist()) == {1, 2}
    assert 0.09 < (motion == 1).float().mean() < 0.11
    assert (draw_motion(1000, 0.0, rng()) == 2).all()


def test_new_frames_by_hand():
    new = new_frames(torch.tensor([1, 2]), torch.zeros(2, 4, 3, 1, 1))
    assert new.flatten(1).tolist() == [[0, 1, 1], [0, 0, 1]]


def test_draws_repeat_with_the_seed_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    one, two = (FlowDraws.draw((2, 3, 2, 1, 1), rng(5)) for _ in range(2))
    assert torch.equal(one.noise, two.noise) and torch.equal(one.sigma, two.sigma)
    assert torch.equal(torch.get_rng_state(), before)
    assert 0 < one.sigma.min() and one.sigma.max() <= 1
