"""The stages learn, repeat with their seed, and go on where they were stopped."""

import io
from dataclasses import replace

import pytest
import torch
from torch import nn

from flashhead.errors import FlashHeadError
from flashhead.geometry import CHUNK_FRAMES
from flashhead.training.audio.stage import AudioSettings, AudioStage
from flashhead.training.data.encoded_clips import EncodedClip
from flashhead.training.data.encoded_dataset import EncodedDataset
from flashhead.training.distillation.losses import DistillationSettings
from flashhead.training.distillation.rollout import latent_motion
from flashhead.training.distillation.stage import DistillationStage, StudentSettings
from flashhead.training.flow.matching import FlowDraws
from flashhead.training.flow.stage import FlowSettings, FlowStage
from flashhead.training.networks.lora import add_lora
from flashhead.training.optimisation.loop import Schedule
from flashhead.training.optimisation.updates import Updater, UpdateSettings

from .small import CONFIG, audio_encoder, generator, rng

FAST = UpdateSettings(learning_rate=3e-3, schedule=Schedule(warmup=0), average=0.9)


def encoded(chunks: int = 3, seed: int = 0) -> EncodedClip:
    """Latents that the audio tells: the first feature of a frame is the sign of the latents."""
    draw = rng(seed)
    shape = (CONFIG.out_dim, 5, 2, 2)
    sign = torch.randn(chunks, generator=draw).sign()
    reference = torch.randn(shape, generator=draw)
    features = torch.randn(chunks, 2 + CHUNK_FRAMES, 1, CONFIG.audio_width, generator=draw) * 0.1
    features[..., :8] += sign.view(-1, 1, 1, 1)
    return EncodedClip(
        latents=sign.view(-1, 1, 1, 1, 1) * torch.ones(chunks, *shape) + 0.1 * reference,
        reference=reference,
        features=features,
        face=torch.ones(chunks, 5, 2, 2),
        mouth=torch.rand(chunks, CHUNK_FRAMES, 2, generator=draw),
        color_mean=torch.zeros(3, 1, 1, 1),
        color_std=torch.ones(3, 1, 1, 1),
    )


@pytest.fixture
def dataset():
    return EncodedDataset([encoded()])


def flow_stage(dataset, **settings) -> FlowStage:
    return FlowStage(generator(), dataset, FlowSettings(batch=2, update=FAST, **settings))


def distillation_stage(dataset, **settings) -> DistillationStage:
    return DistillationStage(
        generator(),
        dataset,
        latent_motion,
        StudentSettings(
            batch=1,
            fake_updates=2,
            student=FAST,
            fake=FAST.model_copy(update={"average": 0.0}),
            **settings,
        ),
    )


def audio_stage() -> AudioStage:
    mouth = torch.rand(40, 2, generator=rng())
    clips = [(torch.randn(40 * 640, generator=rng()), mouth)]
    return AudioStage(audio_encoder(), clips, AudioSettings(batch=1, update=FAST))


def weights(stage) -> list[torch.Tensor]:
    state = stage.state_dict()
    state = state.get("student", state)
    return [w.clone() for w in state["weights"].values()]


def test_stage_1_overfits_one_clip(dataset):
    stage = flow_stage(dataset, audio_dropout=0.0, cold_start=0.5, mouth_weight=0.1)
    batch = dataset.draw_chunks(8, rng(1))
    draws = FlowDraws.draw(batch.latents.shape, rng(2), audio_dropout=0.0)

    def held() -> float:
        with torch.no_grad():
            return stage.losses(batch, draws)["diffusion"].item()

    before, random = held(), rng(3)
    for _ in range(60):
        figures = stage.step(random)
    assert held() < 0.35 * before
    assert figures["mouth_head"] > 0 and figures["gradient"] > 0


@pytest.mark.parametrize("make", [flow_stage, distillation_stage, lambda _: audio_stage()])
def test_a_stopped_stage_goes_on_as_if_it_had_not_stopped(dataset, make):
    whole, random = make(dataset), rng(5)
    for _ in range(2):
        whole.step(random)
    state, numbers = whole.state_dict(), random.get_state()
    saved = {"stage": state, "random": numbers}
    torch.save(saved, buffer := io.BytesIO())
    whole.step(random)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    resumed, random = make(dataset), torch.Generator()
    resumed.load_state_dict(loaded["stage"])
    random.set_state(loaded["random"])
    resumed.step(random)
    for one, other in zip(weights(whole), weights(resumed), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_stage_2_updates_the_student_once_and_the_fake_score_more_often(dataset):
    stage = distillation_stage(dataset)
    real = [p.clone() for p in stage.real.parameters()]
    before = weights(stage)
    figures = stage.step(rng())
    assert (stage.student_updater.count, stage.fake_updater.count) == (1, 2)
    assert {"loss", "dmd", "regression", "fake"} <= set(figures)
    assert any(not torch.equal(a, b) for a, b in zip(before, weights(stage), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(real, stage.real.parameters(), strict=True))


def test_the_updates_of_a_step_may_share_a_rollout(dataset, monkeypatch):
    for reuse, expected in ((False, 3), (True, 1)):
        stage = distillation_stage(dataset, reuse=reuse)
        count = []
        start = stage.start
        monkeypatch.setattr(stage, "start", lambda r, s=start, c=count: (c.append(1), s(r))[1])
        stage.step(rng())
        assert len(count) == expected


def test_stage_2_trains_low_rank_matrices_alone(dataset):
    stage = DistillationStage(
        generator(),
        dataset,
        latent_motion,
        StudentSettings(batch=1, fake_updates=1, student=FAST, fake=FAST),
        adapt=lambda network: add_lora(network, 2, rng()),
    )
    stage.step(rng())
    assert all(key.endswith((".up", ".down")) for key in stage.student_updater.named)


def test_the_ablations_are_switches(dataset):
    for settings in (
        DistillationSettings(oracle=False),
        DistillationSettings(cold_start=0.0),
        DistillationSettings(chunks=1),
    ):
        assert distillation_stage(dataset, distillation=settings).step(rng())["loss"] >= 0
    assert flow_stage(dataset, cold_start=0.0).step(rng())["loss"] > 0


def test_the_mouth_head_needs_clips_that_know_their_mouths():
    unknown = replace(encoded(), mouth=torch.full((3, CHUNK_FRAMES, 2), torch.nan))
    dataset = EncodedDataset([encoded(), unknown])
    with pytest.raises(FlashHeadError, match="set stage.mouth_weight to 0"):
        flow_stage(dataset, mouth_weight=1.0)
    assert flow_stage(dataset).step(rng())["loss"] > 0


def test_learning_rates_end_with_the_run(dataset):
    schedule = Schedule(warmup=0, end=0.1)
    settings = FlowSettings(batch=1, update=UpdateSettings(learning_rate=1.0, schedule=schedule))
    stage, random = FlowStage(generator(), dataset, settings, 2), rng()
    assert [stage.step(random)["rate"] for _ in range(2)] == [
        pytest.approx(schedule.share(step, 2)) for step in range(2)
    ]
    student = StudentSettings(fake_updates=5)
    stage = DistillationStage(generator(), dataset, latent_motion, student, 7)
    assert (stage.student_updater.updates, stage.fake_updater.updates) == (7, 35)


def test_runs_are_consecutive_chunks(dataset):
    lengths = set()
    random = rng()
    for _ in range(30):
        chunks, colors = dataset.draw_runs(2, 2, random)
        lengths.add(len(chunks))
        assert colors.mean.shape == (2, 3, 1, 1, 1)
        if len(chunks) == 2:
            for sample in range(2):
                where = [
                    next(
                        n
                        for n in range(3)
                        if torch.equal(chunk.context[sample], dataset.clips[0].context[n])
                    )
                    for chunk in chunks
                ]
                assert where[1] == where[0] + 1
    assert lengths == {1, 2}
    with pytest.raises(FlashHeadError, match="no encoded clips"):
        EncodedDataset([])


def linear() -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 1.0)
    return layer


def test_accumulated_batches_are_one_update():
    """The gradient of the mean loss over both inputs, by hand."""
    layer = linear()
    seen = []
    layer.weight.register_hook(lambda g: seen.append(g.item()))
    updater = Updater(UpdateSettings(accumulate=2, clip=1e9), layer)
    inputs = iter([1.0, 3.0])

    def losses():
        return {"loss": layer(torch.tensor([next(inputs)])).square().sum()}

    figures = updater.update(losses)
    assert figures["loss"] == pytest.approx((1 + 9) / 2)
    assert sum(seen) == pytest.approx((2 * 1 + 2 * 9) / 2)
    assert figures["gradient"] == pytest.approx(10)
    assert updater.count == 1


def test_the_rate_warms_up_and_weights_are_averaged():
    layer = linear()
    schedule = Schedule(warmup=3)
    updater = Updater(
        UpdateSettings(learning_rate=0.1, schedule=schedule, decay=0.0, average=0.5), layer
    )
    rates, means = [], [1.0]
    for _ in range(5):
        rates.append(updater.update(lambda: {"loss": layer.weight.sum()})["rate"])
        decay = min(0.5, (1 + updater.count) / (10 + updater.count))
        means.append(decay * means[-1] + (1 - decay) * layer.weight.item())
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    updater.use_averaged()
    assert layer.weight.item() == pytest.approx(means[-1], abs=1e-6)


def test_the_rate_follows_its_schedule():
    schedule = Schedule(warmup=1, end=0.1)
    layer = linear()
    updater = Updater(UpdateSettings(learning_rate=2.0, schedule=schedule), layer, updates=4)
    rates = [updater.update(lambda: {"loss": layer.weight.sum()})["rate"] for _ in range(4)]
    assert rates == pytest.approx([2 * schedule.share(step, 4) for step in range(4)])
    assert rates[0] < rates[1] > rates[2] > rates[3]


def test_a_gradient_that_is_not_finite_stops_before_it_does_harm():
    layer = linear()
    updater = Updater(UpdateSettings(), layer)
    with pytest.raises(FloatingPointError, match="update 0"):
        updater.update(lambda: {"loss": layer.weight.sum() * float("inf")})
    assert layer.weight.item() == 1 and layer.weight.grad is None


def test_mixed_precision(dataset):
    stage = FlowStage(
        generator(),
        dataset,
        FlowSettings(batch=1, update=FAST.model_copy(update={"precision": "bfloat16"})),
    )
    figures = stage.step(rng())
    assert figures["loss"] > 0
    assert all(p.dtype == torch.float32 for p in stage.generator.parameters())
    with pytest.raises(ValueError, match="precision"):
        UpdateSettings(precision="float8")
