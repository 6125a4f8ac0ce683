"""What all tests share."""

from __future__ import annotations

import pytest
import torch

# Tests of tests/library that take a second or more; `make check` leaves them out, `make test` does
# not. Names of files, or of functions in them.
SLOW = frozenset(
    {
        "test_memory.py",
        "test_benchmark.py",
        "test_demo.py",
        "test_pocket.py",
        "test_seams.py",
        "test_audio_source.py::test_four_minutes_take_no_more_memory_than_ten_seconds",
        "test_batch.py::test_a_batch_gives_what_its_sessions_give_alone",
        "test_bundle_file.py::test_bf16_bundle_gives_the_folders_bits",
        "test_conversion.py::test_ctrl_c_leaves_nothing",
        "test_conversion.py::test_generate_from_a_bundle",
        "test_conversion.py::test_one_tensor_is_held_at_a_time",
        "test_doctor.py::test_half_precision_is_within_what_is_stated",
        "test_cli.py::test_ctrl_c_keeps_a_playable_video",
        "test_cli.py::test_generate_as_a_process",
        "test_cli.py::test_same_seed_same_video",
        "test_cli_output.py::test_the_status_is_right_where_nobody_reads",
        "test_generate.py::test_any_length_and_rate_gives_exactly_its_frames",
        "test_guidance.py::test_the_variant_chooses_unless_told",
        "test_import.py::test_importing_does_nothing_else",
        "test_memory_estimates.py::test_what_pros_vae_takes",
        "test_leaptalk.py::test_where_the_adapter_may_lie",
        "test_miniature.py::test_frames_are_a_picture_of_something",
        "test_resample.py::test_torchaudio_is_not_imported_before_it_is_needed",
        "test_tiny_vae.py::test_in_a_bundle_and_from_the_command_line",
        "test_video.py::test_memory_does_not_grow_with_length",
        "test_video_failures.py::test_a_kill_leaves_a_playable_partial",
    }
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not {item.path.name, f"{item.path.name}::{item.name.partition('[')[0]}"}.isdisjoint(
            SLOW
        ):
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The miniature's tensors are too small to share out, least of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter) -> None:
    """What was not tested, in capitals, so that nobody takes a skip for a pass."""
    # Of the reports and not of a flag, because workers (-n) are other processes.
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {report.longrepr[2].removeprefix("Skipped: ") for report in skipped}
    said = sorted(reason for reason in reasons if reason.startswith("NOT TESTED"))
    if said:
        terminalreporter.section("NOT TESTED", sep="!", red=True, bold=True)
        for reason in said:
            terminalreporter.line(reason, red=True, bold=True)
