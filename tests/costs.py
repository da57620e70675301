"""What each test costs: `pytest --costs [--costs-file x.tsv]` ranks files and tests by CPU seconds, children included.

Wall time on a busy machine measures the machine. A test's setup is counted to it, so whoever asks first for a shared
fixture pays for it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, process_time  # by name: some tests put clocks of their own in the module

import pytest

SHOWN = 25
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
KEY = "cost"


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds: on the clock, computed by the worker itself, computed by processes it started."""

    wall: float = 0.0
    own: float = 0.0
    children: float = 0.0

    @property
    def cpu(self) -> float:
        return self.own + self.children

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall + other.wall, self.own + other.own, self.children + other.children)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall - other.wall, self.own - other.own, self.children - other.children)

    @classmethod
    def now(cls) -> Cost:
        """All so far: of children that ended what the system kept, of the rest what they have used."""
        ended = os.times()
        living = sum(_used(pid) for pid in _descendants(os.getpid()))
        return cls(monotonic(), process_time(), ended.children_user + ended.children_system + living)


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = [int(child) for child in task.read_text().split()]
        except OSError:
            continue  # the thread ended meanwhile
        for child in found:
            yield child
            yield from _descendants(child)


def _used(pid: int) -> float:
    """User and system time of a process and of its children that ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / TICKS


class Costs:
    """Measures where the tests run, collects where the reports arrive: with xdist those are two processes."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._tests: dict[str, Cost] = defaultdict(Cost)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        item.stash[_BEGUN] = Cost.now()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        report = yield
        seen, item.stash[_BEGUN] = item.stash[_BEGUN], Cost.now()
        spent = item.stash[_BEGUN] - seen
        report.user_properties = [*report.user_properties, (KEY, [spent.wall, spent.own, spent.children])]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for key, value in report.user_properties:
            if key == KEY:
                self._tests[report.nodeid] += Cost(*value)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        files: dict[str, Cost] = defaultdict(Cost)
        for name, cost in self._tests.items():
            files[name.partition("::")[0]] += cost
        terminalreporter.section(f"costs: {sum(files.values(), Cost()).cpu:.0f} CPU seconds")
        for title, costs in (("file", files), ("test", self._tests)):
            terminalreporter.write_line(f"{'CPU s':>8} {'of it children':>14} {'wall s':>8}  {title}")
            for name, cost in sorted(costs.items(), key=lambda pair: -pair[1].cpu)[:SHOWN]:
                terminalreporter.write_line(f"{cost.cpu:8.1f} {cost.children:14.1f} {cost.wall:8.1f}  {name}")
        if self._file is not None:
            rows = (f"{c.wall:.3f}\t{c.own:.3f}\t{c.children:.3f}\t{name}\n" for name, c in self._tests.items())
            self._file.write_text("".join(rows))


_BEGUN = pytest.StashKey[Cost]()
