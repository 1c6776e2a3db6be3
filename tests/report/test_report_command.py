"""`inheritune report`: pages of runs that ended, of runs that did not, and of several beside each other."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from made_up_run import GAPS, control_data, result_data, write_run
from shell import command, refused
from test_report_page import EVIL, text_of, unclosed


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """A finished run, and one that was stopped in its third round."""
    planned = {
        "planned_seconds": 650.0,
        "seconds": 700.2,
        "planned_memory": 8e8,
        "memory": 820_000_000,
        "planned_cost": 1.5,
        "cost": 1.62,
    }
    whole = write_run(tmp_path / "whole", result_data() | {"controls": control_data(), "planned": planned})
    stopped = write_run(tmp_path / "stopped")
    (stopped / "result.json").unlink()
    return whole, stopped


def test_the_page_is_made_anew_also_of_a_stopped_run(runs: tuple[Path, Path]) -> None:
    ended = command("report", *map(str, runs))
    assert ended.code == 0 and ended.out.split() == [str(run / "report.html") for run in runs]
    said = text_of((runs[0] / "report.html").read_text(encoding="utf-8"))
    assert (
        "The plan was 11 min and 800 MB of memory, at a cost of 1.50; the run took 11 min 40 s and 820 MB, at a cost of 1.62."
        in said
    )
    assert "This run has not finished" in text_of((runs[1] / "report.html").read_text(encoding="utf-8"))


def test_every_column_has_a_header_for_readers(runs: tuple[Path, Path]) -> None:
    command("report", str(runs[0]))
    page = (runs[0] / "report.html").read_text(encoding="utf-8")
    heads = [cell for line in page.splitlines() if line.startswith("<thead>") for cell in line.split("<th")[2:]]
    assert heads and all('scope="col"' in cell.split(">")[0] for cell in heads)


def test_each_figure_is_saved_by_itself(runs: tuple[Path, Path]) -> None:
    """Every file is whole XML, in plain colours; there is one for each figure of the page."""
    ended = command("report", str(runs[0]), "--svg")
    page = (runs[0] / "report.html").read_text(encoding="utf-8")
    saved = [Path(line) for line in ended.out.split()[1:]]
    assert len(saved) == page.count('<div class="wide"><svg') > 3 and len(set(saved)) == len(saved)
    for path in saved:
        assert ET.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(--" not in path.read_text(encoding="utf-8")


def test_runs_beside_each_other(runs: tuple[Path, Path], tmp_path: Path) -> None:
    ended = command("report", *map(str, runs), "--compare", str(tmp_path / "both"))
    page = (tmp_path / "both" / "compare.html").read_text(encoding="utf-8")
    assert ended.out.strip() == str(tmp_path / "both" / "compare.html") and not unclosed(page)
    rows = [text_of(row) for row in page.split("<tr>")[2:]]
    assert rows[0].startswith("whole matched bundled:laptop 20 of 24 1.26 M 3.5701 +0.0041 [+0.0003, +0.0079]")
    assert rows[1].startswith(f"stopped not finished bundled:laptop 20 {3.566 + GAPS[20]['mean']:.4f}")
    warned = write_run(tmp_path / "warned", result_data() | {"message": "Matched. Caution: few. Caution: books"})
    command("report", str(runs[0]), str(warned), "--compare", str(tmp_path / "warn"))
    assert "warned matched, 2 cautions bundled:laptop" in text_of(
        (tmp_path / "warn" / "compare.html").read_text("utf-8")
    )
    assert page.count("<svg") == 2 and "2 runs side by side" in page


def test_nothing_from_outside_becomes_markup(runs: tuple[Path, Path], tmp_path: Path) -> None:
    hostile = result_data()
    hostile["reference"]["model"] = EVIL
    write_run(tmp_path / "<b>evil", hostile)
    command("report", str(tmp_path / "<b>evil"), str(runs[0]), "--compare", str(tmp_path / "both"))
    page = (tmp_path / "both" / "compare.html").read_text(encoding="utf-8")
    assert "<b>" not in page and "<img" not in page and not unclosed(page)


def test_what_is_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    assert "no run folder at" in refused("report", str(tmp_path / "nowhere"))
    (tmp_path / "other").mkdir()
    assert "is not a run folder" in refused("report", str(tmp_path / "other"))
    assert "name two or more" in refused("report", str(runs[0]), "--compare", str(tmp_path / "both"))
    assert "is named twice" in refused("report", str(runs[0]), str(runs[0]), "--compare", str(tmp_path / "both"))
    (runs[0] / "result.json").write_text("{")
    assert command("report", str(runs[0])).code == 0
    assert "is not a run's result" in text_of((runs[0] / "report.html").read_text(encoding="utf-8"))
