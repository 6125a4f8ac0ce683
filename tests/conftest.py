"""What all tests share."""

from __future__ import annotations

import pytest
import torch


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
