import json

import pytest
import torch

from flashhead.training.optimisation.loop import LOG, STATE, LoopSettings, Schedule, train


class Counting:
    """A stage whose weight is a random walk with momentum: everything a resume could forget."""

    def __init__(self):
        self.weight, self.speed = torch.zeros(4), torch.zeros(4)

    def step(self, rng):
        self.speed = 0.9 * self.speed + torch.randn(4, generator=rng)
        self.weight = self.weight + self.speed
        return {"loss": float(self.weight.sum())}

    def state_dict(self):
        return {"weight": self.weight, "speed": self.speed}

    def load_state_dict(self, state):
        self.weight, self.speed = state["weight"], state["speed"]


SETTINGS = LoopSettings(steps=20, report_every=5, save_every=4, measure_every=10, seed=3)


def test_a_stopped_run_ends_as_an_uninterrupted_one(tmp_path):
    whole = Counting()
    train(whole, tmp_path / "whole", SETTINGS)
    asked = iter([False] * 6 + [True])
    first = Counting()
    assert train(first, tmp_path / "cut", SETTINGS, should_stop=lambda: next(asked)) == 7
    second = Counting()
    assert train(second, tmp_path / "cut", SETTINGS) == 20
    assert torch.equal(second.weight, whole.weight) and torch.equal(second.speed, whole.speed)


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path):
    class Killed(Counting):
        def step(self, rng):
            if self.speed.abs().sum() and len(done) == 10:
                raise KeyboardInterrupt
            done.append(1)
            return super().step(rng)

    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        train(Killed(), tmp_path, SETTINGS)
    assert torch.load(tmp_path / STATE, weights_only=True)["step"] == 8
    again, whole = Counting(), Counting()
    train(again, tmp_path, SETTINGS)
    train(whole, tmp_path / "whole", SETTINGS)
    assert torch.equal(again.weight, whole.weight)


def test_a_checkpoint_replaces_the_last_one_whole(tmp_path, monkeypatch):
    train(Counting(), tmp_path, LoopSettings(steps=4, save_every=4))
    before = (tmp_path / STATE).read_bytes()

    def broken(state, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        train(Counting(), tmp_path, LoopSettings(steps=8, save_every=4))
    assert (tmp_path / STATE).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []


def test_the_log_has_means_and_measurements(tmp_path):
    reported = []
    train(Counting(), tmp_path, SETTINGS, measure=lambda: {"good": 1.0}, on_report=reported.append)
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert lines == reported
    assert [line["step"] for line in lines] == [5, 10, 10, 15, 20, 20]
    assert [line["step"] for line in lines if "measured" in line] == [10, 20]
    assert all(line["seconds"] >= 0 for line in lines)


def test_a_finished_run_is_left_alone(tmp_path):
    train(Counting(), tmp_path, SETTINGS)
    again = Counting()
    assert train(again, tmp_path, SETTINGS) == 20
    assert again.weight.abs().sum() > 0


def test_the_rate_warms_up_holds_and_falls():
    schedule = Schedule(warmup=10, decay=0.5, end=0.1)
    shares = [schedule.share(step, 100) for step in range(101)]
    assert shares[0] == pytest.approx(1 / 11) and shares[10] == shares[49] == 1.0
    assert shares[75] == pytest.approx(0.55) and shares[100] == pytest.approx(0.1)
    assert shares[:11] == sorted(shares[:11]) and shares[50:] == sorted(shares[50:])[::-1]
