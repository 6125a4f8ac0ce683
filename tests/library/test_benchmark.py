"""benchmarks/throughput.py: it runs, and what it writes is whole. How fast is for it to say."""

import importlib
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STAGES = [
    *("audio", "noise", "conditioning", "step 1", "step 2", "decode", "colour", "re-encode"),
    *("transfer", "denoise, all", "sum of stages", "end to end"),
]


@pytest.fixture
def throughput(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("throughput")


@pytest.mark.parametrize(("variant", "size"), [("lite", "64x32"), ("pro", "32x16")])
def test_the_table_is_whole(throughput, tmp_path, capsys, variant, size):
    out = tmp_path / "results" / "out.json"
    arguments = f"--variant {variant} --size {size} --reduced --layers 1 --steps 2 --chunks 2"
    status = throughput.main([*arguments.split(), "--device", "cpu", "--json", str(out)])
    assert status == 0
    written = json.loads(out.read_text())
    settings, results = written["settings"], written["results"]
    assert (settings["variant"], settings["size"], settings["layers"]) == (variant, size, 1)
    assert written["machine"]["torch"] and written["machine"]["cpu"]
    assert list(results["stages"]) == STAGES
    assert all(stage["ms"] > 0 for stage in results["stages"].values())
    for figure in ("fps", "real_time_factor", "floor_fps", "peak_memory_bytes"):
        assert results[figure] > 0
    assert results["matmul_tflops"].keys() == {"bfloat16", "float32"}
    printed = capsys.readouterr().out
    assert all(f"| {stage} " in printed for stage in STAGES)


@pytest.mark.parametrize(
    ("variant", "step", "decode", "encode", "floor"),
    [("lite", 3.56, 7.7, 2.1, 24), ("pro", 38.8, 73.9, 7.0, 236)],
)
def test_work_is_what_the_design_counts(throughput, variant, step, decode, encode, floor):
    sizes = throughput.sizes_of(variant)
    bundle = throughput.abstract_bundle(variant, sizes)
    work = throughput.count_work(bundle, (512, 512), 4, 8.0)
    assert work["step 1"] == pytest.approx(step, rel=0.02)
    assert work["decode"] == pytest.approx(decode, rel=0.02)
    assert work["re-encode"] == pytest.approx(encode, rel=0.02)
    assert sum(work.values()) == pytest.approx(floor, rel=0.02)


def test_a_folder_that_is_no_checkout(throughput, tmp_path, capsys):
    arguments = "--size 64x32 --layers 1 --reference".split()
    with pytest.raises(SystemExit):
        throughput.parse([*arguments, str(tmp_path), "--reduced"])
    with pytest.raises(throughput.flashhead.FlashHeadError, match="no checkout"):
        throughput.check_checkout(tmp_path)
    capsys.readouterr()
