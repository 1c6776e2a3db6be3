import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from made_up_run import control_data, result_data

from inheritune.errors import InputError
from inheritune.records.result import Result, schema_text

SCHEMA = resources.files("inheritune.schemas") / "result.schema.json"


def test_the_stored_schema_is_the_generated_one() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text()


def written(folder: Path, **changes: Any) -> Path:
    Result.model_validate(result_data() | changes).save(folder / "result.json")
    return folder / "result.json"


@pytest.mark.parametrize("controls", [None, control_data()])
def test_a_saved_result_reads_back_equal_and_leaves_no_half(tmp_path: Path, controls: Any) -> None:
    path = written(tmp_path, controls=controls)
    assert json.loads(path.read_text()) == result_data() | {"controls": controls}
    assert Result.load(path) == Result.model_validate(result_data() | {"controls": controls})
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("controls", [None, control_data()])
def test_a_saved_result_satisfies_the_schema(tmp_path: Path, controls: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text())
    saved = json.loads(written(tmp_path, controls=controls).read_text())
    jsonschema.validate(saved, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(saved | {"colour": "blue"}, schema)


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        ({"outcome": "won"}, "outcome"),
        ({"colour": "blue"}, "colour"),
        ({"confidence": 95}, "confidence"),
        ({"target": result_data()["target"] | {"depth": 3}}, "target"),
        (
            {"rounds": [result_data()["rounds"][0] | {"gap": {"mean": 0, "low": 1, "high": 2, "verdict": "worse"}}]},
            "gap",
        ),
        ({"rounds": [result_data()["rounds"][0] | {"val_loss": float("nan")}]}, "val_loss"),
    ],
)
def test_a_wrong_result_is_refused_by_place(tmp_path: Path, spoil: dict[str, Any], place: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result_data() | spoil))
    with pytest.raises(InputError, match=place) as refused:
        Result.load(path)
    assert "\n" not in str(refused.value)


def test_a_missing_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No result can be read from .*result\.json"):
        Result.load(tmp_path / "result.json")
