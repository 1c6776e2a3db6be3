"""What a pipe is told of work that goes on, line by line."""

import ast
import re
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.table import Table

from inheritune import progress as module
from inheritune.models.quiet import loading
from inheritune.progress import PlainConsole, Progress, Rates, clock, ending
from inheritune.words import harmless


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines below stages, none of which is left out, on a clock that stands still however slow the machine is."""
    lines, line = list[str](), Progress._line

    def telling(progress: Progress, text: str) -> None:
        line(progress, text)
        lines.append(text)

    monkeypatch.setattr(Progress, "_line", telling)
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(module, "_TICK", 0.01)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 100.0))
    return lines


def wait_until(seen: Callable[[], bool]) -> None:
    """Until another thread has come so far; a minute at most."""
    end = time.monotonic() + 60
    while not seen() and time.monotonic() < end:
        time.sleep(0.01)


def test_what_cannot_be_counted_shows_its_time_also_where_others_are_kept_from_speaking(
    told: list[str], capsys: pytest.CaptureFixture
) -> None:
    progress, before = Progress(to_stderr=True), sys.stderr
    with progress.waiting("Model: a.gguf, 98 MB"), redirect_stderr(StringIO()):
        wait_until(lambda: len(told) > 2)
    progress.note("after")
    assert sys.stderr is before
    first, *middle, last = capsys.readouterr().err.splitlines()
    assert (first, last) == ("Model: a.gguf, 98 MB", "  after")
    assert len(middle) > 2 and set(middle) == {"  0:00 so far"}


def test_what_is_waited_for_shows_the_parts_that_are_done_and_the_next_stage_none_of_them(
    told: list[str], capsys: pytest.CaptureFixture
) -> None:
    progress = Progress()
    with progress.waiting("Model", "tensors") as count:
        count(3, 1_272)
        wait_until(lambda: "tensors" in "".join(told))
    told.clear()
    with progress.waiting("Another"):
        wait_until(lambda: len(told) > 2)
    before, after = capsys.readouterr().out.split("Another\n")
    assert before.splitlines()[-1] == "  0:00 so far, 3 of 1,272 tensors" and set(after.splitlines()) == {
        "  0:00 so far"
    }
    count = progress.tally("a look")
    count(1, 1)
    count(2, 3)
    assert capsys.readouterr().out == "  a look: 2 of 3\n"


def test_what_is_done_before_anything_is_counted_is_named(told: list[str], capsys: pytest.CaptureFixture) -> None:
    progress = Progress()
    with loading(progress, "Model"):
        wait_until(lambda: len(told) > 2)
    assert set(capsys.readouterr().out.splitlines()[1:]) == {"  0:00 so far, reading its header, config and tokenizer"}


def test_a_stage_that_fails_stops_telling(capsys: pytest.CaptureFixture) -> None:
    progress = Progress()
    with pytest.raises(ValueError), progress.waiting("Model"):
        raise ValueError
    said = capsys.readouterr().out
    time.sleep(0.05)
    assert said.startswith("Model\n") and capsys.readouterr().out == ""


def test_a_count_has_its_rate_and_the_time_left(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """3 of 12 parts in 6 s are 0.5 a second, and the other 9 take 18 s."""
    now, tell = [100.0], Rates(Progress())
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LINES", 1.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    tell("Losses of cuts", 0, 12)
    now[0] += 6
    tell("Losses of cuts", 3, 12)
    first, *_, last = capsys.readouterr().out.splitlines()
    assert (first, last) == ("Losses of cuts", "  3 of 12, 0.5 a second, 0:18 left")


@pytest.mark.parametrize(
    ("early", "until", "said"),
    [
        (False, 110.0, "at most 0:04"),
        (False, 200.0, "0:18"),
        (True, 200.0, "at most 0:18"),
        (False, 100.0, "at most 0:00"),
    ],
)
def test_no_more_time_is_left_than_a_limit_leaves(
    early: bool, until: float, said: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above: 18 s by the rate, at second 106."""
    now = [100.0]
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LINES", 1.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    tell = ending(partial(Rates(Progress(), early), "Losses of cuts"), until)
    tell(0, 12)
    now[0] += 6
    tell(3, 12)
    assert capsys.readouterr().out.splitlines()[-1] == f"  3 of 12, 0.5 a second, {said} left"
    assert ending(print, until) is print


def test_a_stage_shows_its_time_until_it_can_count_and_after_its_end_nothing(
    told: list[str], capsys: pytest.CaptureFixture
) -> None:
    tell = Rates(Progress())
    for total in (1, 2):
        told.clear()
        tell(f"Loading {total}", 0, total)
        wait_until(lambda: len(told) > 2)
        tell(f"Loading {total}", total, total)
        said = capsys.readouterr().out.splitlines()
        time.sleep(0.05)
        assert said[0] == f"Loading {total}" and said.count("  0:00 so far") > 2 and capsys.readouterr().out == ""
    assert said[-1].startswith("  2 of 2, ")


def test_quiet_is_quiet(capsys: pytest.CaptureFixture) -> None:
    progress = Progress(quiet=True)
    with progress.waiting("Model"):
        Rates(progress)("Maps", 1, 2)
    assert re.sub(r"\s", "", "".join(capsys.readouterr())) == ""


@pytest.mark.parametrize(("seconds", "said"), [(0, "0:00"), (61.4, "1:01"), (3723, "1:02:03")])
def test_clocks(seconds: float, said: str) -> None:
    assert clock(seconds) == said


def test_whatever_is_printed_goes_through_one_console() -> None:
    """Text from outside is markup to every other."""
    source = Path(module.__file__).parent
    made = {
        path.name
        for path in source.rglob("*.py")
        for part in ast.walk(ast.parse(path.read_text()))
        if isinstance(part, ast.Call) and ast.unparse(part.func) == "Console"
    }
    assert made == set()


@pytest.mark.parametrize("text", ["[/x] [red]a[/red] :smile: $\\frac{$", "\x1b[31m\x07\x9b1m\u202e"])
def test_text_from_outside_means_only_itself(text: str) -> None:
    file = StringIO()
    console = PlainConsole(file=file, width=200)
    table = Table(text, title=text)
    table.add_row(text)
    console.print(text, table)
    printed = file.getvalue()
    assert printed.count(harmless(text)) == 4 and harmless(printed) == printed


def test_a_terminal_sees_the_view_below_the_state_and_a_pipe_does_not(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for terminal in (True, False):
        progress = Progress()
        monkeypatch.setattr(progress.console, "_force_terminal", terminal)
        monkeypatch.setattr(progress.console, "_width", 30)
        progress.view = lambda: "■■·■  two\n3 blocks \x1b[31m and what is longer than a line holds"
        progress.now("step 1 of 6")
        shown = str(progress._live.get_renderable()) if progress._live else ""
        progress.close()
        piped = capsys.readouterr().out
        if terminal:
            second = "3 blocks \N{REPLACEMENT CHARACTER}[31m and what is\n  longer than a line holds"
            assert shown == f"  step 1 of 6\n  ■■·■  two\n  {second}"
        else:
            assert (shown, piped) == ("", "  step 1 of 6\n")


def test_what_is_said_at_once_stands_in_the_next_look_of_a_terminal_and_in_a_pipe(
    capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes from another thread, which draws nothing."""
    progress = Progress()
    progress.at_once("stopping")
    assert capfd.readouterr().out == "  stopping\n"
    monkeypatch.setattr(progress.console, "_force_terminal", True)
    progress.now("step 1 of 6")
    assert progress._live is not None
    progress.at_once("stopping")
    assert str(progress._live.get_renderable()) == "  step 1 of 6\n  stopping"
    progress.stage("next")
    progress.now("step 1 of 2")
    assert str(progress._live.get_renderable()) == "  step 1 of 2"
    progress.close()
    quiet = Progress(quiet=True)
    capfd.readouterr()
    quiet.at_once("stopping")
    assert capfd.readouterr().out == ""


def test_a_terminals_lines_end_between_words_and_keep_their_indent_and_a_pipes_are_whole() -> None:
    words, place = "what it takes and what it can give in so many words", "/a/very/long/place/that/no/line/holds"
    for terminal in (True, False):
        file = StringIO()
        console = PlainConsole(file=file, width=20, force_terminal=terminal, color_system=None, soft_wrap=True)
        console.sentence(f"{words} {place}", "  ")
        lines = file.getvalue().splitlines()
        assert " ".join(" ".join(lines).split()) == f"{words} {place}"
        assert lines == [f"  {words} {place}"] if not terminal else len(lines) > 3
        assert all(line.startswith("  ") and (len(line) <= 20 or place in line) for line in lines) or not terminal
