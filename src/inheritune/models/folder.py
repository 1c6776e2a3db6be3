"""Model folders: how one is read, without trust in its content, and how a new one is put in place."""

import json
import os
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
from inheritune.records.model_folder import ModelOrigin, ProofRecord

MOST_JSON = 64 << 20  # bytes
WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
RECORD, PROOF, CARD = ModelOrigin.NAME, ProofRecord.NAME, "README.md"
MODELFILE = "Modelfile"  # of a folder made for Ollama
# Files that go along with a model, whatever is done to its blocks.
ALONG = re.compile(
    r"(tokenizer.*|vocab\.(json|txt|bpe)|merges\.txt|special_tokens_map\.json|added_tokens\.json|spiece\.model"
    r"|sentencepiece.*|.*\.tiktoken|.*\.jinja|chat_template\.json|generation_config\.json"
    r"|(LICEN[CS]E|NOTICE|COPYING|USE_POLICY).*)",
    re.IGNORECASE,
)
CHAT_TEMPLATES = "additional_chat_templates"  # a folder of further templates, which goes along whole


def inside(folder: Path, name: str) -> Path:
    """The file `name` of a model folder; raises ModelError for one that is missing or leads out of the folder.

    A link may lead to the `blobs` beside the `snapshots` of a Hugging Face cache, and nowhere else outside.
    """
    if name != Path(name).name or name in ("", ".", ".."):
        raise ModelError(f"{name!r:.300} is not the name of a file in {folder}: names may not lead out of the folder.")
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
    """Raise ModelError for a link out of the folder among the files that go along (tokenizer, template), and for pipes, sockets, devices."""
    for path in sorted(folder.iterdir() if folder.is_dir() else ()):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ModelError(f"{path} is a pipe, socket or device and no file: remove it.")
        if path.is_symlink() and path.name == CHAT_TEMPLATES:
            raise ModelError(f"{path} is a link: copy the templates there instead.")
        if path.is_symlink() and ALONG.fullmatch(path.name):
            inside(folder, path.name)


def require_model(folder: Path) -> None:
    """Raise ModelError where there is no model folder."""
    if not folder.is_dir():
        raise ModelError(f"{folder} is no folder: give a model folder with a config.json.")
    if (folder / "adapter_config.json").is_file() and not (folder / CONFIG).is_file():
        raise ModelError(f"{folder} is a PEFT adapter: merge it into its base model first (merge_and_unload).")
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{folder} has no config.json: it is not a model folder.")


def weight_files(folder: Path) -> list[Path]:
    """The files of weights that `from_pretrained` reads, in its order: later ones prevail.

    What the config names takes precedence over a single file, and that over an index, which may be left from another save.
    Raises ModelError where there are none, or they lead out of the folder.
    """
    require_model(folder)
    named = read_json(folder, CONFIG).get("transformers_weights")
    found = named if named is not None else next((name for name in (WEIGHTS, INDEX) if (folder / name).is_file()), None)
    if found is None:
        raise _no_weights(folder)
    if not isinstance(found, str) or not found.endswith((".safetensors", ".safetensors.index.json")):
        raise ModelError(
            f"config.json of {folder} names {found!r:.80} as transformers_weights: name a safetensors file."
        )
    if found.endswith(".safetensors"):
        return [inside(folder, found)]
    listed = read_json(folder, found).get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(isinstance(name, str) for name in listed.values()):
        raise ModelError(f"{folder / found} has no weight_map: fetch it again.")
    return [inside(folder, name) for name in sorted(set(listed.values()))]


def _no_weights(folder: Path) -> ModelError:
    names = sorted(path.name for path in folder.iterdir())
    if shards := [name for name in names if name.endswith(".safetensors")]:
        return ModelError(
            f"{folder} holds {shards[0]}, but neither {WEIGHTS} nor {INDEX}, which says what the shards hold: fetch it too,"
            " or save the model again."
        )
    pickles = [name for name in names if name.endswith((".bin", ".pt", ".pth"))]
    found = f"; {pickles[0]} is a pickle, which is not read" if pickles else ""
    return ModelError(f"{folder} holds no safetensors weights{found}: save the model as safetensors.")


def pieces_of(folder: Path) -> list[Piece]:
    """Every tensor that `from_pretrained` reads of a model folder; raises ModelError where its files are missing or damaged."""
    pieces = [piece for file in weight_files(folder) for piece in read_header(file)]
    last = {piece.name: piece for piece in pieces}
    return [piece for piece in pieces if last[piece.name] is piece]


def copy_along(source: Path, target: Path) -> None:
    """Copy tokenizer, generation config, chat templates and licence files, and code where the config asks for it."""
    code = "auto_map" in read_json(source, CONFIG)
    for path in sorted(source.iterdir()):
        if path.is_file() and (ALONG.fullmatch(path.name) or (code and path.suffix == ".py")):
            shutil.copyfile(inside(source, path.name), target / path.name)
    for path in sorted((source / CHAT_TEMPLATES).glob("*.jinja")):
        (target / CHAT_TEMPLATES).mkdir(exist_ok=True)
        shutil.copyfile(inside(source / CHAT_TEMPLATES, path.name), target / CHAT_TEMPLATES / path.name)


def require_place(target: Path, sources: list[Path], force: bool) -> None:
    """Raise OutputError where a model may not be written: an existing folder, or one inside its source.

    With `force`, a folder that holds a model or is empty may be replaced, and none that holds anything else. It is offered only
    where it would help.
    """
    if target.name in ("", ".."):
        raise OutputError(f"{target} names no folder of its own: give the folder by its name.")
    recover(target)
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target} is a file: choose a folder.")
    if target.is_dir() and (held := {path.name for path in target.iterdir()}) and not held & {CONFIG, MODELFILE}:
        raise OutputError(
            f"{target} is not empty and holds no model, so it is not replaced: move it, or choose another folder."
        )
    for source in sources:
        own, other = (Path(os.path.realpath(path)) for path in (target, source))  # a link to itself is no error here
        if own == other or own.is_relative_to(other) or other.is_relative_to(own):
            raise OutputError(f"{target} and its source {source} lie inside one another: choose another place.")
    if (target.exists() or target.is_symlink()) and not force:
        raise OutputError(f"{target} exists: choose another folder, or give --force to replace it.")
    if not target.parent.is_dir():
        raise OutputError(f"{target.parent} is no folder: create it first.")


@contextmanager
def placed(target: Path, force: bool) -> Iterator[Path]:
    """A new folder beside `target`, moved into its place when all is done, and removed if anything fails.

    Raises OutputError where it cannot be written. An existing target is replaced only at the very end, and only by `force`.
    """
    with writing(target), whole_folder(target, force) as beside:
        yield beside
