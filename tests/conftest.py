"""What all tests share. Oracles that ask Python's own zoneinfo must read the same zone files as Camp: those of the package tzdata."""

import sys
import zoneinfo
from pathlib import Path

zoneinfo.reset_tzpath(to=())


def pytest_terminal_summary(terminalreporter):
    """Says once, and loudly, when the server store or the browser was not tested."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests import pgserver

    reason = pgserver.skip_reason()
    if reason:
        terminalreporter.write_line(reason, red=True, bold=True)
    for report in terminalreporter.getreports("skipped"):
        if "NOT TESTED" in str(report.longrepr):
            terminalreporter.write_line(report.longrepr[2].removeprefix("Skipped: "), red=True, bold=True)
            break
