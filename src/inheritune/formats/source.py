"""Find the model to export: that of a finished run, or any model folder by its name."""

from pathlib import Path

from inheritune.errors import ModelError
from inheritune.models.find import locate
from inheritune.models.folder import CONFIG, RECORD, require_model
from inheritune.records.model_folder import ModelOrigin


def model_folder(source: str) -> Path:
    """The model folder of a run, or that `source` names; raises ModelError where there is none."""
    run = Path(source).expanduser()
    if (run / "model" / CONFIG).is_file():
        return run / "model"
    if (run / "config.yaml").is_file() and not (run / CONFIG).is_file():
        raise ModelError(f"{source!r} is a run without a model yet: inheritune status {source} says how it goes on.")
    folder = locate(source)
    if folder.suffix == ".gguf":
        raise ModelError(
            f"{source!r} is a GGUF file already: llama-quantize packs it otherwise, `ollama create` takes it."
        )
    require_model(folder)
    return folder


def name_of(source: str, folder: Path) -> str:
    """A model's default name: the name of its run's folder, or of its own."""
    place = Path(source).expanduser()
    return (place if place.is_dir() else folder).resolve().name


def caution(folder: Path) -> str | None:
    """The warning in a model's record on what readers that count layers misread in its config; None where there is none."""
    place = folder / RECORD
    return ModelOrigin.load(place).miscounted if place.is_file() else None
