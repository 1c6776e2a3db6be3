"""Which lines of ours each test of a file runs, and the CPU seconds it takes: a pytest plugin, whose findings are a JSON file.

A context of coverage.py is a test, or a fixture that outlives one: its lines belong to every test that asks for it. A fork that
ends by itself hands in what it ran; processes that are killed, and other programs, do not.
"""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import coverage
import pytest


class Traced:
    """Records one session below `root`, into `place`."""

    def __init__(self, root: Path, place: Path):
        self.root, self.place = root, place
        self.forks = place.with_suffix(".forks")
        self.forks.mkdir(parents=True)
        # In memory: a forked process must not share a file's connection.
        self.coverage = coverage.Coverage(data_file=None, source=[str(root / "src" / "inheritune")])
        self.now, self.main, self.leave = "", os.getpid(), os._exit
        self.costs: dict[str, float] = {}
        self.tests: dict[str, list[str]] = {}

    def pytest_sessionstart(self) -> None:
        self.coverage.start()
        os._exit = self._hand_in

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        used = [held[-1] for held in item._fixtureinfo.name2fixturedefs.values() if held]
        self.tests[item.nodeid] = [_context(fixture) for fixture in used if fixture.scope != "function"]
        return (yield from self._within(item.nodeid))

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        return (yield from self._within(self.now if fixturedef.scope == "function" else _context(fixturedef)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:  # unchanged, as where a machine is too slow for it: it tells nothing of a change
            print(f"{report.nodeid} fails unchanged and is left out", file=sys.__stderr__)
            self.tests.pop(report.nodeid, None)

    def _within(self, name: str) -> Iterator[None]:
        before, began, inner = self.now, _cpu(), sum(self.costs.values())
        self._switch(name)
        try:
            return (yield)
        finally:
            if name != before:
                self.costs[name] = self.costs.get(name, 0) + _cpu() - began - (sum(self.costs.values()) - inner)
            self._switch(before)

    def _switch(self, name: str) -> None:
        if name != self.now:
            self.now = name
            self.coverage.switch_context(name)

    def _hand_in(self, code: int) -> NoReturn:
        """`os._exit`, after a fork has written down what it ran."""
        try:
            if os.getpid() != self.main:
                self.coverage.stop()
                data = self.coverage.get_data()
                data.set_query_contexts([re.escape(self.now)])
                ran = {file: data.lines(file) for file in data.measured_files()}
                (self.forks / f"{os.getpid()}.json").write_text(json.dumps([self.now, ran]))
        finally:
            self.leave(code)

    def pytest_sessionfinish(self) -> None:
        self.coverage.stop()
        os._exit = self.leave
        data = self.coverage.get_data()
        for fork in self.forks.iterdir():
            name, ran = json.loads(fork.read_text())
            data.set_context(name)
            data.add_lines(ran)
            fork.unlink()
        self.forks.rmdir()
        held = {file: data.contexts_by_lineno(file) for file in data.measured_files()}
        lines = {Path(file).relative_to(self.root).as_posix(): found for file, found in held.items() if found}
        self.place.write_text(json.dumps({"tests": self.tests, "costs": self.costs, "lines": lines}))


class Chosen:
    """Runs the tests of these names alone, in their order."""

    def __init__(self, names: list[str]):
        self.order = {name: at for at, name in enumerate(names)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.order), key=lambda item: self.order[item.nodeid]
        )


class Lines:
    """What a file of tests was seen to run."""

    def __init__(self, place: Path):
        found = json.loads(place.read_text())
        self.tests, self.costs, self.lines = found["tests"], found["costs"], found["lines"]

    def running(self, path: str, lines: range) -> list[str]:
        """The tests that run any of these lines, the cheapest first; of lines that run at import, the tests that run the file."""
        held = self.lines.get(path, {})
        hit = {context for line in lines for context in held.get(str(line), [])}
        if hit == {""}:
            hit = {context for contexts in held.values() for context in contexts}
        return sorted((test for test, fixtures in self.tests.items() if hit & {test, *fixtures}), key=self.cost)

    def cost(self, test: str) -> float:
        """CPU seconds of a test by itself."""
        return self.costs.get(test, 0.0)

    def first_cost(self, test: str) -> float:
        """With the fixtures that it is the first to ask for."""
        return self.cost(test) + sum(self.costs.get(fixture, 0.0) for fixture in self.tests[test])


def _context(fixture: Any) -> str:
    return f"fixture {fixture.baseid}::{fixture.argname}"


def _cpu() -> float:
    """Of this process and of its children that have ended."""
    return sum(os.times()[:4])
