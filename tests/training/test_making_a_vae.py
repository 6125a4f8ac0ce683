"""The whole way from drawn clips to a VAE in the published layout, at the smallest size."""

import json

import pytest
import torch

from flashhead.checkpoint.components import open_vae
from flashhead.checkpoint.layout import VAE_FOLDERS
from flashhead.training.__main__ import main
from flashhead.training.commands.options import CONFIGS
from flashhead.training.commands.vae import VAERun
from flashhead.training.data.clip_dataset import ClipDataset
from flashhead.training.optimisation.loop import LOG
from flashhead.training.settings import read_settings
from flashhead.training.vae.report import psnr, vae_report


def test_clips_are_drawn_a_vae_is_trained_resumed_and_exported(tmp_path, capsys):
    draw = ["babble", "--clips", "2", "--frames", "9", "--size", "32", "--identities", "2"]
    assert main(["draw", *draw, "--output", str(tmp_path / "clips")]) == 0
    clips = ClipDataset(tmp_path / "clips")
    assert len(clips) == 2 and clips.arrays["video"].shape == (2, 9, 32, 32, 3)

    settings = {
        "seed": 0,
        "updates": 4,
        "start": {"clips": 2},
        "sizes": {
            "block_out_channels": [12, 12],
            "layers_per_block": [1, 1, 1],
            "spatio_temporal_scaling": [True, True],
            "latent_channels": 8,
            "patch_size": 4,
        },
        "stage": {"batch": 1, "frames": 9, "learning_rate": 1e-5, "muon_rate": 0},
    }
    config = tmp_path / "vae.json"
    config.write_text(json.dumps(settings))
    command = ["vae", "--config", str(config), "--work", str(tmp_path / "work"), "--report", "1"]
    command += ["--clips", str(tmp_path / "clips"), "--held-out", str(tmp_path / "clips")]
    command += ["--output", str(tmp_path / "root")]
    assert main([*command, "--updates", "2"]) == 0
    assert main(command) == 0
    lines = (tmp_path / "work" / LOG).read_text().splitlines()
    reports = [json.loads(line) for line in lines]
    assert [r["step"] for r in reports if "loss" in r] == [1, 2, 3, 4]
    assert any("measured" in report for report in reports)

    vae = open_vae(tmp_path / "root" / VAE_FOLDERS["lite"]).load()
    assert vae.stride == (4, 16, 16)
    report = vae_report(vae, clips)
    assert report["psnr"] > 12 and report["openness_limit"] > 0.8
    latents = vae.encode(clips[0].video.permute(3, 0, 1, 2)[None].float() / 127.5 - 1)
    assert 0.3 < latents.std() < 3


def test_commands_are_listed_and_unknown_ones_refused(capsys):
    assert main(["--help"]) == 0 and "distillation" in capsys.readouterr().out
    assert main(["dance"]) == 2


def test_more_identities_than_there_are(capsys):
    assert main(["draw", "babble", "--identities", "99", "--output", "nowhere"]) == 1
    assert "the repertoire has 1 to" in capsys.readouterr().err


def test_a_data_set_that_is_not_there_is_named(tmp_path, capsys):
    arguments = ["vae", "--work", str(tmp_path), "--output", str(tmp_path)]
    assert main([*arguments, "--clips", str(tmp_path / "none")]) != 0
    assert "make the data set first" in capsys.readouterr().err


def test_psnr_by_hand():
    error = torch.full((2, 2, 3), 0.01)
    assert psnr(error, torch.ones(2, 2)) == pytest.approx(20.0)
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    error[0, 0] = 0.001
    assert psnr(error, weight) == pytest.approx(30.0)


def test_the_shipped_settings_make_the_pocket_vae():
    settings = read_settings(VAERun, CONFIGS / "vae.json")
    assert settings.sizes.config().stride == (4, 16, 16)
