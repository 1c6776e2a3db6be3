"""A model as a folder: what is read from one, with distrust, and how a new one is put in place."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inheritune.disk.files import writing
from inheritune.disk.folders import recover, whole_folder
from inheritune.errors import ModelError, OutputError
from inheritune.models.shards import Piece, read_header

MOST_JSON = 64 << 20  # bytes
WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
RECORD, PROOF, CARD = "inheritune.json", "proof.json", "README.md"
# Files that go along with a model, whatever is done to its blocks.
ALONG = re.compile(
    r"(tokenizer.*|vocab\.(json|txt|bpe)|merges\.txt|special_tokens_map\.json|added_tokens\.json|spiece\.model"
    r"|sentencepiece.*|.*\.tiktoken|.*\.jinja|chat_template\.json|generation_config\.json"
    r"|(LICEN[CS]E|NOTICE|COPYING|USE_POLICY).*)",
    re.IGNORECASE,
)
TEMPLATES = "additional_chat_templates"  # a folder of further templates, which goes along whole


def inside(folder: Path, name: str) -> Path:
    """The file `name` of a model folder; raises ModelError for one that is missing or leads out of the folder.

    A link may lead to the `blobs` beside the `snapshots` of a Hugging Face cache, and nowhere else outside.
    """
    if name != Path(name).name or name in ("", ".", ".."):
        raise ModelError(f"{name!r} is not the name of a file in {folder}: names may not lead out of the folder.")
    path = folder / name
    if not path.is_file():
        raise ModelError(f"{path} is missing: the model is not complete.")
    roots = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        roots.append(folder.resolve().parents[1] / "blobs")
    if not any(path.resolve().is_relative_to(root) for root in roots):
        raise ModelError(f"{path} is a link that leads out of the folder: copy the file there instead.")
    return path


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of a model folder; raises ModelError for one that is huge, damaged or no object."""
    path = inside(folder, name)
    if path.stat().st_size > MOST_JSON:
        raise ModelError(f"{path} has {path.stat().st_size} bytes, more than any model's {name} needs.")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not readable JSON: fetch it again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a JSON object: fetch it again.")
    return content


def require_own_files(folder: Path) -> None:
    """Raise ModelError where a file that goes along with a model (tokenizer, template) is a link out of its folder."""
    for path in sorted(folder.iterdir() if folder.is_dir() else ()):
        if path.is_symlink() and path.name == TEMPLATES:
            raise ModelError(f"{path} is a link: copy the templates there instead.")
        if path.is_symlink() and ALONG.fullmatch(path.name):
            inside(folder, path.name)


def require_model(folder: Path) -> None:
    """Raise ModelError where there is no model folder, or one with pickled weights only."""
    if not folder.is_dir():
        raise ModelError(f"{folder} is no folder: give a model folder with a config.json.")
    if (folder / "adapter_config.json").is_file() and not (folder / CONFIG).is_file():
        raise ModelError(f"{folder} is a PEFT adapter: merge it into its base model first (merge_and_unload).")
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{folder} has no config.json: it is not a model folder.")
    if not (folder / INDEX).is_file() and not (folder / WEIGHTS).is_file():
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth"))
        found = f"; {pickles[0]} is a pickle, which is not read" if pickles else ""
        raise ModelError(f"{folder} holds no safetensors weights{found}: save the model as safetensors.")


def pieces_of(folder: Path) -> list[Piece]:
    """Every tensor of a model folder; raises ModelError where files are missing or disagree with the index."""
    require_model(folder)
    if not (folder / INDEX).is_file():
        return read_header(inside(folder, WEIGHTS))
    listed = read_json(folder, INDEX).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise ModelError(f"{folder / INDEX} has no weight_map: fetch it again.")
    files = sorted(set(listed.values()))
    pieces = [piece for name in files for piece in read_header(inside(folder, name))]
    held = {piece.name: piece.file.name for piece in pieces}
    for name in sorted(set(held) ^ set(listed)):
        raise ModelError(f"The index and the files of {folder} disagree about the tensor {name!r}.")
    for name, file in listed.items():
        if held[name] != file:
            raise ModelError(f"The index of {folder} looks for {name!r} in {file}, but it is in {held[name]}.")
    return pieces


def copy_along(source: Path, target: Path) -> None:
    """Copy tokenizer, generation config, chat templates and licence files, and code where the config asks for it."""
    code = "auto_map" in read_json(source, CONFIG)
    for path in sorted(source.iterdir()):
        if path.is_file() and (ALONG.fullmatch(path.name) or (code and path.suffix == ".py")):
            shutil.copyfile(inside(source, path.name), target / path.name)
    for path in sorted((source / TEMPLATES).glob("*.jinja")):
        (target / TEMPLATES).mkdir(exist_ok=True)
        shutil.copyfile(inside(source / TEMPLATES, path.name), target / TEMPLATES / path.name)


def require_place(target: Path, sources: list[Path], force: bool) -> None:
    """Raise OutputError where a model may not be written: an existing folder, or one inside its source."""
    if target.name in ("", ".."):
        raise OutputError(f"{target} names no folder of its own: give the folder by its name.")
    recover(target)
    if target.exists() and not force:
        raise OutputError(f"{target} exists: choose another folder, or give --force to replace it.")
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target} is a file: choose a folder.")
    for source in sources:
        own, other = target.resolve(), source.resolve()
        if own == other or own.is_relative_to(other) or other.is_relative_to(own):
            raise OutputError(f"{target} and its source {source} lie inside one another: choose another place.")
    if not target.parent.is_dir():
        raise OutputError(f"{target.parent} is no folder: create it first.")


@contextmanager
def placed(target: Path, force: bool) -> Iterator[Path]:
    """A new folder beside `target`, moved into its place when all is done, and removed if anything fails.

    Raises OutputError where it cannot be written. An existing target is replaced only at the very end, and only by `force`.
    """
    with writing(target), whole_folder(target, force) as beside:
        yield beside
