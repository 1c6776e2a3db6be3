"""Every head of a diagnosis on the page: each chart and table against the profile, whole without a script."""

import json
import math
import re
from pathlib import Path

import pytest
from made_up_run import write_run

from inheritune.report.heads import MOST_HEADS, heads_shown
from inheritune.report.page import write_report, write_svgs
from inheritune.report.profile_figures import HEAD_MEASURES

PROFILE = json.loads((Path(__file__).parents[2] / "docs/results/diagnosis-smollm2/profile.json").read_text())
HEADS = {(layer["index"], at): head for layer in PROFILE["layers"] for at, head in enumerate(layer["heads"])}
PROFILE["lazy_heads"] = {
    str(layer["index"]): [at for at, head in enumerate(layer["heads"]) if head["rank"] <= 1.5]
    for layer in PROFILE["layers"]
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = write_run(tmp_path_factory.mktemp("run") / "run")
    (found / "profile.json").write_text(json.dumps(PROFILE))
    write_report(found)
    return found


@pytest.mark.parametrize("measure", HEAD_MEASURES)
def test_a_chart_says_each_heads_number_and_is_the_darker_the_more(measure: str) -> None:
    found = heads_shown(PROFILE["layers"], PROFILE["lazy_heads"])
    assert found is not None and (found.across, found.down) == (30, 9)
    (chart,) = [chart for chart in found.charts if chart.measure == measure]
    cells = {(cell.layer, cell.head): cell for cell in chart.cells}
    assert cells.keys() == HEADS.keys()
    for (layer, at), cell in cells.items():
        assert cell.said == f"layer {layer}, head {at}: {HEADS[layer, at][measure]:.3g}"
        assert cell.lazy == (HEADS[layer, at]["rank"] <= 1.5)
    order = sorted(cells, key=lambda place: HEADS[place][measure])
    shades = [cells[place].shade for place in order]
    assert shades == sorted(shades) and shades[-1] == pytest.approx(1) and shades[0] == pytest.approx(0.06)


def test_every_link_of_the_page_leads_to_its_heads_numbers(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    rows = dict(re.findall(r'<tr id="head-(\d+-\d+)"><th scope="row">\d+</th><td>([^<]+)<', page))
    assert rows == {f"{layer}-{at}": f"{head['rank']:.3g}" for (layer, at), head in HEADS.items()}
    assert set(re.findall(r'href="#head-(\d+-\d+)"', page)) == rows.keys()
    assert page.count("<title>layer ") == len(HEADS) * len(HEAD_MEASURES)
    assert re.findall(r'id="layer-(\d+)"', page) == [str(layer) for layer in range(30)]
    assert re.findall(r'href="#layer-(\d+)"', page) == [str(layer) for layer in range(30)]
    for measure in HEAD_MEASURES:
        assert f'id="by-{measure}"' in page and f"#by-{measure}:checked ~ .of-{measure}" in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) and "<script" not in page


def test_each_chart_is_a_file_too(folder: Path) -> None:
    names = {path.stem for path in write_svgs(folder)}
    assert {f"heads-{measure}" for measure in HEAD_MEASURES} <= names


def test_what_no_page_can_hold_or_nobody_measured_is_left_out() -> None:
    layers = PROFILE["layers"]
    wide = [{"heads": layers[0]["heads"] * (1 + MOST_HEADS // 9)}]
    assert heads_shown(wide, {}) is None and heads_shown([], {}) is None and heads_shown([{"heads": []}], {}) is None
    few = [{"heads": [head | {"output": None, "entropy": math.nan} for head in layers[0]["heads"]]}, {}]
    found = heads_shown(few, {})
    assert found is not None and [chart.measure for chart in found.charts] == ["rank", "mass", "first_key"]
    assert [table.layer for table in found.layers] == [0]
