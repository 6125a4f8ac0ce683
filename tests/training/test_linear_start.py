import itertools
from dataclasses import replace

import pytest
import torch

from flashhead.checkpoint.configs import read_ltx_config, to_config
from flashhead.errors import FlashHeadError
from flashhead.models.config import LTXVAEConfig
from flashhead.training.data.clip_dataset import ClipDataset, write_clips
from flashhead.training.faces.drawn_clips import babbling_clips
from flashhead.training.optimisation.loop import LoopSettings, train
from flashhead.training.optimisation.muon import Muon, branch_weights, orthogonalized
from flashhead.training.vae.linear_start import linear_start, principal_components
from flashhead.training.vae.network import new_vae
from flashhead.training.vae.stage import VAESettings, VAEStage, fit_statistics
from flashhead.training.vae.video_batch import draw_videos

CONFIG = LTXVAEConfig((16, 16), (1, 1, 1), (True, True), 12, patch_size=4)
LINEAR_ENCODER = replace(CONFIG, layers_per_block=(0, 0, 0), decoder_layers_per_block=(1, 1, 2))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return ClipDataset(write_clips(folder, itertools.islice(babbling_clips(32, 17, 0), 4), 4))


def test_principal_components_by_hand():
    samples = torch.tensor([[2.0, 1.0], [-2.0, 1.0], [0.0, 1.5], [0.0, 0.5]])
    basis = principal_components(samples, torch.ones(4), 2)
    assert torch.allclose(basis.mean, torch.tensor([0.0, 1.0]))
    assert torch.allclose(basis.rows.abs(), torch.eye(2), atol=1e-6)
    assert torch.allclose(basis.deviation, torch.tensor([2.0**0.5, 0.125**0.5]))
    # A sample that weighs nothing is not there.
    flat = principal_components(samples, torch.tensor([0.0, 0.0, 1.0, 1.0]), 1)
    assert torch.allclose(flat.rows.abs(), torch.tensor([[0.0, 1.0]]), atol=1e-6)


def test_a_linear_start_keeps_pictures_that_random_weights_do_not(clips):
    batch = draw_videos(clips, 4, 9, rng(), torch.device("cpu"))
    weight = torch.ones_like(batch.video[:, :1])
    vae = new_vae(CONFIG, rng())
    with torch.no_grad():
        before = (vae.decode(vae.encode(batch.video)) - batch.video).square().mean()
        linear_start(vae, batch.video, weight)
        latents = vae.encode(batch.video)
        after = (vae.decode(latents) - batch.video).square().mean()
    assert after < 0.1 * before and after < 0.25 * batch.video.var()
    assert 0.5 < latents.std() < 1.5


def test_a_linear_start_needs_equal_widths():
    vae = new_vae(LTXVAEConfig((8, 16), (1, 1, 1), (True, True), 8, patch_size=4), rng())
    video = torch.zeros(1, 3, 5, 16, 16)
    with pytest.raises(FlashHeadError, match="equal widths"):
        linear_start(vae, video, video[:, :1])


def test_orthogonalized_matrices_have_equal_singular_values():
    for shape in ((8, 40), (40, 8)):
        values = torch.linalg.svdvals(orthogonalized(torch.randn(shape, generator=rng())))
        assert values.min() > 0.5 and values.max() < 1.4


def test_muon_goes_down_and_takes_the_residual_branches_alone():
    weight = torch.nn.Parameter(torch.randn(4, 6, generator=rng()))
    target = torch.randn(4, 6, generator=rng(1))
    optimizer = Muon([weight], lr=0.1)
    first = float((weight.detach() - target).square().sum())
    for _ in range(200):
        optimizer.zero_grad()
        (weight - target).square().sum().backward()
        optimizer.step()
    assert float((weight.detach() - target).square().sum()) < 0.1 * first
    vae = new_vae(CONFIG, rng())
    branches = {id(p) for p in branch_weights(vae)}
    for name, parameter in vae.named_parameters():
        of_branch = name.endswith(("conv1.conv.weight", "conv2.conv.weight"))
        assert (id(parameter) in branches) == of_branch


SETTINGS = VAESettings(batch=1, frames=5)


def test_training_lowers_the_loss_and_leaves_the_global_random_state(clips):
    stage = VAEStage(new_vae(CONFIG, rng()), clips, VAESettings(batch=2, frames=5), 40)
    state = torch.get_rng_state()
    draws = rng(1)
    losses = [stage.step(draws)["loss"] for _ in range(30)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert torch.equal(torch.get_rng_state(), state)


def test_an_encoder_that_stays_keeps_its_latents_while_the_decoder_learns(clips):
    vae = new_vae(LINEAR_ENCODER, rng())
    assert not any(".resnets." in name for name, _ in vae.encoder.named_parameters())
    assert len(vae.decoder.mid_block.resnets) == 2
    assert read_ltx_config(to_config(vae.config), "here") == LINEAR_ENCODER
    settings = VAESettings(batch=2, frames=5, encoder=False, muon_rate=2e-3)
    video = draw_videos(clips, 1, 5, rng(2), torch.device("cpu")).video
    before = vae.encode(video).detach()
    stage = VAEStage(vae, clips, settings, 40)
    draws = rng(1)
    losses = [stage.step(draws) for _ in range(30)]
    assert torch.equal(vae.encode(video), before)
    assert not {"kl", "probe"} & losses[0].keys()
    assert sum(x["loss"] for x in losses[-5:]) < 0.9 * sum(x["loss"] for x in losses[:5])


def test_a_resumed_training_is_bit_identical(clips, tmp_path):
    def stage() -> VAEStage:
        return VAEStage(new_vae(CONFIG, rng()), clips, SETTINGS, 6)

    loop = LoopSettings(steps=6, save_every=2, seed=2)
    whole, first, second = stage(), stage(), stage()
    train(whole, tmp_path / "whole", loop)
    asked = iter([False, False, True])
    train(first, tmp_path / "cut", loop, should_stop=lambda: next(asked))
    train(second, tmp_path / "cut", loop)
    assert second.updater.count == 6
    for (name, a), b in zip(
        whole.vae.state_dict().items(), second.vae.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    for name, mean in whole.averaged_weights().items():
        assert torch.equal(mean, second.averaged_weights()[name]), name


def test_an_encoder_that_stays_is_in_the_saved_state(clips):
    """A resumed run makes no linear start, so its encoder comes from the state alone."""
    settings = VAESettings(batch=1, frames=5, encoder=False, muon_rate=2e-3)
    first = VAEStage(new_vae(LINEAR_ENCODER, rng()), clips, settings, 6)
    first.step(rng(1))
    state = first.state_dict()
    assert set(state) == {"modules", "averaged", "optimizers", "count"}
    second = VAEStage(new_vae(LINEAR_ENCODER, rng(9)), clips, settings, 6)
    second.load_state_dict(state)
    expected = first.averaged_vae().state_dict()
    for name, weight in second.averaged_vae().state_dict().items():
        assert torch.equal(weight, expected[name]), name


def test_accumulated_batches_are_one_large_batch(clips):
    """Same clips, same noise: two batches of one step as one batch of two."""
    plain = {"frames": 5, "learning_rate": 1e-3}
    one = VAEStage(new_vae(CONFIG, rng()), clips, VAESettings(batch=2, **plain), 6)
    two = VAEStage(new_vae(CONFIG, rng()), clips, VAESettings(batch=1, accumulate=2, **plain), 6)
    both = draw_videos(clips, 2, 5, rng(3), torch.device("cpu"))
    noise = torch.zeros(2, 12, 2, 2, 2)
    one.losses(both, noise, rng())["loss"].backward()
    for index in range(2):
        part = type(both)(*(getattr(both, n)[index : index + 1] for n in both.__annotations__))
        (two.losses(part, noise[:1], rng())["loss"] / 2).backward()
    for a, b in zip(one.vae.parameters(), two.vae.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-5)


def test_fitted_statistics_make_unit_latents(clips):
    vae = new_vae(CONFIG, rng()).eval()
    fit_statistics(vae, clips, 4, 5, rng(1))
    latents = torch.cat(
        [vae.encode(draw_videos(clips, 4, 5, rng(1), torch.device("cpu")).video)]
    ).transpose(0, 1)
    assert latents.flatten(1).mean(1).abs().max() < 1e-3
    assert (latents.flatten(1).std(1) - 1).abs().max() < 1e-2
