"""What was not tested is said in capitals at the end, so that nobody takes a skip for a pass."""

from __future__ import annotations


def pytest_terminal_summary(terminalreporter) -> None:
    # Of the reports and not of a flag, because workers (-n) are other processes.
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {report.longrepr[2].removeprefix("Skipped: ") for report in skipped}
    said = sorted(reason for reason in reasons if reason.startswith("NOT TESTED"))
    if said:
        terminalreporter.section("NOT TESTED", sep="!", red=True, bold=True)
        for reason in said:
            terminalreporter.line(reason, red=True, bold=True)
