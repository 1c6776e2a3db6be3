# ruff: noqa: RUF001  (the page's own minus, dash and times signs)
"""The page says what the run's files say, at any moment of a run, and nothing from outside becomes markup."""

import json
import re
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_up_run import DEPTHS, control_data, result_data, samples_data, write_controls, write_run
from markupsafe import Markup
from matplotlib.figure import Figure

from inheritune.errors import InputError
from inheritune.report import pictures
from inheritune.report.page import write_report

EVIL = '<img src=x onerror=alert(1)> & "q" {{ 7*7 }} $\\alpha$'


def page_of(folder: Path) -> str:
    path = write_report(folder)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """What a reader sees, without figures and style, on one line."""
    bare = re.sub(r"<(svg|style|title)\b.*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(bare).split())


def run_with(folder: Path, **changes: Any) -> Path:
    return write_run(folder / "run", result_data() | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = write_run(tmp_path_factory.mktemp("finished"), result_data() | {"controls": control_data()})
    write_controls(folder)
    return page_of(folder)


@pytest.fixture
def text_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures undrawn, for what is said in words alone."""
    monkeypatch.setattr(pictures, "drawn_twice", lambda name, draw: Markup())


@pytest.mark.parametrize(
    "said",
    [
        "20 of 24 blocks match the reference",
        "The gap, target loss minus reference loss, is +0.0041 nats per token, with a 96.7% interval of +0.0003 to +0.0079",
        "The margin, declared before the run, is 0.01. The gap was measured on 400 validation documents",
        "Parameters 1.46 M 1.26 M −14%",
        "8.2 M tokens, 5.6 per parameter. That is little",
        "The target consists of blocks 0–4, 6–9, 11–15, 18–23.",
        "1 16 150 1.23 M 2 min 02 s 3.6370 +0.0710 [+0.0650, +0.0770] worse",
        "Round 1 16 blocks: gap +0.071 [+0.065, +0.077] above the margin 0.010, so growing to 18",
        "ends with a gap of −0.0200 [−0.0240, −0.0160] to the original reference. Target minus control, on the same documents, is +0.0241 [+0.0201, +0.0281]: with the same tokens, the control reaches a lower loss.",
        "ends with a gap of +1.4120 [+1.3920, +1.4320] to the original reference. Target minus control, on the same documents, is −1.4079 [−1.4279, −1.3879].",
        "training 3.69 M 2.5 × 10¹³ 6 min 50 s",
        "total 5.87 M",
        "inheritune run laptop --out runs/laptop",
        "torch 2.13.0+cpu",
        "peak_lr: 0.001",
    ],
)
def test_the_page_of_a_finished_run_says(finished: str, said: str) -> None:
    assert said in text_of(finished)


def test_every_figure_is_there_for_screens_and_for_phones(finished: str) -> None:
    drawn = re.findall(r'<div class="(wide|narrow)"><svg', finished)
    assert drawn == ["wide", "narrow"] * 6


def test_the_page_is_self_contained(finished: str) -> None:
    assert "default-src 'none'" in finished
    assert not re.search(r"<script|<link|<img|@import|\bsrc=|url\((?!#)", finished)
    assert not re.search(r'href="(?!#)', finished)


def test_ids_are_unique_across_figures_and_tags_close(finished: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', finished)
    assert len(ids) == len(set(ids))
    assert unclosed(finished) == []


def test_the_same_folder_gives_the_same_page(tmp_path: Path) -> None:
    folder = run_with(tmp_path)
    assert page_of(folder) == page_of(folder)
    assert not list(folder.glob(".*"))


@pytest.mark.usefixtures("text_only")
def test_without_controls_the_page_says_what_is_not_known(tmp_path: Path) -> None:
    said = text_of(page_of(run_with(tmp_path)))
    assert "The controls were not run. So it is not known how much of the result comes from the inherited" in said
    assert "--controls" in said


@pytest.mark.usefixtures("text_only")
@pytest.mark.parametrize(
    ("outcome", "verdict", "headline"),
    [
        ("matched", "surpassed", "20 of 24 blocks do better than the original reference"),
        ("not_matched", "worse", "20 of 24 blocks do not match the reference"),
        ("not_matched", "cannot tell", "It cannot be told whether 20 of 24 blocks match the reference"),
        (
            "budget_spent",
            "worse",
            "The budget was spent before a match; the run reached 20 of 24 blocks",
        ),
    ],
)
def test_the_headline_follows_outcome_and_verdict(tmp_path: Path, outcome: str, verdict: str, headline: str) -> None:
    data = result_data()
    data["rounds"][-1]["gap"] = data["rounds"][-1]["gap"] | {"verdict": verdict}
    page = page_of(run_with(tmp_path, outcome=outcome, rounds=data["rounds"], message="Try more tokens next."))
    assert headline in text_of(page) and "Try more tokens next." in text_of(page)
    assert f'class="verdict {"good" if outcome == "matched" else "bad"}"' in page


@pytest.mark.usefixtures("text_only")
@pytest.mark.parametrize(
    ("cautions", "said"),
    [((), ""), (("few",), ", with 1 caution, below"), (("few", "books"), ", with 2 cautions, below")],
)
def test_the_headline_points_at_the_cautions(tmp_path: Path, cautions: tuple[str, ...], said: str) -> None:
    """They stand word for word where the message has them, and the link leads to the first."""
    message = "Matched: gap -0.1" + "".join(f". Caution: {caution}" for caution in cautions) + ". Guard: able"
    page = page_of(run_with(tmp_path, message=message))
    assert f"20 of 24 blocks match the reference{said} {message}." in text_of(page).replace(" , ", ", ")
    assert ('<a href="#cautions">' in page) is ('<span id="cautions">Caution: few' in page) is bool(cautions)


@pytest.mark.usefixtures("text_only")
def test_the_page_tells_the_pace_where_the_log_has_it(tmp_path: Path) -> None:
    """The medians, of the shares only those that can be: none is above the machine's rate."""
    folder = run_with(tmp_path)
    assert "tokens/s" not in text_of(page_of(folder)), "this log has no rates"
    rows = ((100, 0.2), (1200, 0.25), (1300, None), (9000, 1.4), (1250, 0.9))
    with (folder / "metrics.jsonl").open("a") as log:
        for rate, share in rows:
            log.write(json.dumps({"kind": "step", "tokens_per_second": rate, "mfu": share}) + "\n")
    said = "Training ran at 1,250 tokens/s, the median of all steps, and used 25% of the machine's rate for matrix products (MFU)."
    assert said in text_of(page_of(folder))


@pytest.mark.usefixtures("text_only")
def test_samples_stand_side_by_side_with_their_marks(tmp_path: Path) -> None:
    """And the speed beside the sizes; a run that measured neither says so of the speed."""
    page = page_of(run_with(tmp_path, side_by_side=samples_data()))
    assert 'A<span class="lost1"> ship</span><span class="lost2"> sails</span></p>' in page
    assert page.count("A ship sails</p>") == 1, "what costs the target less is not marked"
    assert (
        "Best: gap −0.1200 nats" in page
        and "<dd>A ship</dd>" in page
        and "<dd> home</dd>" in page
        and "<dd> on</dd>" in page
    )
    assert (
        '<th scope="row">Tokens per second</th><td>100</td><td class="ours">125</td><td>on the documents shown</td>'
        in page
    )
    assert '<th scope="row">Weights and cache at 1,024 tokens</th><td>18.4 MB</td><td class="ours">15.6 MB</td>' in page
    without = page_of(run_with(tmp_path / "other"))
    assert "Speed was not measured in this run" in without and "Side by side" not in without


@pytest.mark.usefixtures("text_only")
def test_a_packed_reference_is_not_set_beside_a_file_that_is_not(tmp_path: Path) -> None:
    """Why the smaller model's file is the larger one is said, and only there."""
    packed = {"weight_bytes": 1_000_000, "dtype": "packed (GGUF)", "cache_bytes_per_token": 12_288}
    page = page_of(run_with(tmp_path, reference=result_data()["reference"] | {"footprint": packed}))
    assert "Weights on disk (packed (GGUF) and float32)" in page and "The reference's file is packed" in text_of(page)
    (tmp_path / "plain").mkdir()
    assert "packed" not in page_of(run_with(tmp_path / "plain"))


def test_an_unknown_training_of_the_reference_is_said(tmp_path: Path) -> None:
    reference = result_data()["reference"] | {"trained_tokens": None, "tokens_per_parameter": None}
    assert "It is not known here how long the reference was trained" in text_of(
        page_of(run_with(tmp_path, reference=reference))
    )


def test_a_run_before_its_end_says_how_far_it_is(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "result.json").unlink()
    said = text_of(page_of(folder))
    assert "This run has not finished" in said
    assert "in round 3, at 20 blocks, after 3.69 M tokens" in said
    assert "the target's gap to the reference was +0.0041 nats per token" in said
    assert "match the reference" not in said


ABSENCES = {
    "was not measured, or not yet",
    "No blocks have been chosen yet",
    "Nothing has been trained yet",
    "has not finished",
}
# What is said where a file is missing, and which figure goes with it. The result knows the blocks, and what each round ended with.
MISSING: dict[str, tuple[set[str], set[str]]] = {
    "config.yaml": (set(), set()),
    "profile.json": ({"was not measured, or not yet"}, {"rank"}),
    "choice.json": (set(), set()),
    "metrics.jsonl": (set(), {"loss", "training"}),
    "result.json": ({"has not finished"}, {"gap"}),
}


@pytest.mark.parametrize("missing", MISSING)
def test_any_one_file_may_be_missing(tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "inline_svg", lambda figure, name: Markup(f'<svg id="{name}"></svg>'))
    folder = write_run(tmp_path / "run")
    (folder / missing).unlink()
    page = page_of(folder)
    said, without = MISSING[missing]
    assert {words for words in ABSENCES if words in text_of(page)} == said
    assert set(re.findall(r'<svg id="(\w+)-wide"', page)) == {"loss", "training", "gap", "rank", "map"} - without


def test_the_proof_of_the_saved_target_is_on_the_page(tmp_path: Path) -> None:
    """That of its own depth, where rounds of others have one too; before the end the newest; a damaged one is told and not shown."""
    folder = write_run(tmp_path / "run")
    assert "<h2>Proof</h2>" not in page_of(folder)
    for number, depth in enumerate((16, 20, 22), 1):
        place = folder / "rounds" / f"{number:02}-{depth}-blocks"
        place.mkdir(parents=True)
        check = {"name": f"logits of {depth} blocks are equal", "passed": True, "detail": "as it should be"}
        (place / "proof.json").write_text(json.dumps({"passed": True, "checks": [check]}))
    depth = result_data()["target"]["depth"]
    assert depth in (16, 20)
    said = text_of(page_of(folder))
    assert f"every one of these checks. Logits of {depth} blocks are equal." in said and "Logits of 22" not in said
    (folder / "result.json").unlink()
    assert "Logits of 22 blocks are equal." in text_of(page_of(folder))
    (place / "proof.json").write_text("{")
    said = text_of(page_of(folder))
    assert "proof.json" in said and "Logits of 22" not in said


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    for name in ("profile.json", "choice.json", "metrics.jsonl", "result.json"):
        (folder / name).unlink()
    said = text_of(page_of(folder))
    for absence in (
        "Nothing has been trained yet",
        "No blocks have been chosen yet",
        "was not measured, or not yet",
    ):
        assert absence in said


def test_a_log_line_cut_by_a_kill_is_left_out_and_damage_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    log = folder / "metrics.jsonl"
    whole = page_of(folder)
    log.write_text(log.read_text() + '{"kind": "step", "rou')
    assert page_of(folder) == whole
    log.write_text("nonsense\n" + log.read_text())
    assert "metrics.jsonl: line 1 could not be read and was left out." in text_of(page_of(folder))


@pytest.mark.usefixtures("text_only")
@pytest.mark.parametrize("name", ["profile.json", "choice.json", "result.json", "config.yaml"])
def test_a_damaged_file_is_named_on_the_page(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path / "run")
    (folder / name).write_text('{"half": [')
    assert name in text_of(page_of(folder))


def test_no_text_from_outside_becomes_markup(tmp_path: Path) -> None:
    data = result_data() | {
        "message": EVIL,
        "command": EVIL,
        "controls": control_data(),
        "side_by_side": samples_data(),
    }
    sample = data["side_by_side"]["samples"][0]
    sample["target"] = sample["reference"] = sample["pieces"][1] = EVIL
    data["reference"]["model"] = data["decisions"][0]["reason"] = data["controls"][0]["name"] = EVIL
    data["ledger"]["phases"][EVIL] = data["ledger"]["phases"]["heal"]
    folder = write_run(tmp_path / "run", data)
    for name, key in (("choice.json", "reason"), ("profile.json", "suggestion")):
        changed = json.loads((folder / name).read_text()) | {key: EVIL if key == "reason" else {"reason": EVIL}}
        (folder / name).write_text(json.dumps(changed))
    (folder / "config.yaml").write_text(json.dumps({"name": EVIL}))
    page = page_of(folder)
    assert "<img" not in page
    assert text_of(page).count(EVIL) >= 10


@pytest.mark.parametrize("make", [False, True])
def test_what_is_no_run_folder_is_refused(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "other"
    if make:
        folder.mkdir()
    with pytest.raises(InputError, match="run folder"):
        write_report(folder)


def test_tokens_counted_anew_in_each_round_give_the_same_picture(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    whole = page_of(folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if row["kind"] in ("step", "validation"):
            row["tokens"] -= (row["round"] - 1) * 1_228_800
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert page_of(folder) == whole


def test_controls_are_laid_over_the_last_round_from_its_first_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, Figure] = {}

    def keep(name: str, draw: Callable[[float], Figure]) -> Markup:
        drawn[name] = draw(7.4)
        return Markup()

    monkeypatch.setattr(pictures, "drawn_twice", keep)
    folder = run_with(tmp_path, controls=control_data())
    write_controls(folder)
    page_of(folder)
    lines = drawn["control"].axes[0].lines
    assert len(lines) == 3
    assert [(line.get_xdata()[0], line.get_xdata()[-1]) for line in lines] == [(0, 1_228_800)] * 3


def test_more_blocks_than_numbers_on_a_line_still_draw(tmp_path: Path) -> None:
    data = result_data()
    data["reference"]["depth"] = 80
    assert len(DEPTHS[20]) == data["target"]["depth"]
    assert "20 of 80 blocks" in text_of(page_of(write_run(tmp_path / "run", data)))


class _Nesting(HTMLParser):
    VOID = frozenset({"meta", "br", "img", "hr", "input", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()


def unclosed(page: str) -> list[str]:
    nesting = _Nesting()
    nesting.feed(page)
    return nesting.open
