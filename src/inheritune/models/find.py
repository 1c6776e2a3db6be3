"""Find a model: a folder, a GGUF file, or an id of the hub, which is checked before it is fetched."""

import logging
import re
import sys
import threading
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from inheritune.errors import ModelError
from inheritune.models.answers import watch_answers

BUNDLED = "bundled:laptop"
_TOKENIZER = [
    "*.json",
    "*.txt",
    "*.model",
    "*.jinja",
    "*.tiktoken",
    "LICENSE*",
    "NOTICE*",
    "README.md",
]
_WEIGHTS = "*.safetensors"
_WHOLE = [_WEIGHTS, *_TOKENIZER]
SECONDS = 5.0  # for the hub to answer at all
_ADAPTER = "adapter_config.json"


def locate(source: str, revision: str | None = None, weights: bool = True, trust: bool = False) -> Path:
    """The folder or GGUF file that `source` names; a hub id is fetched first, at `revision`, with or without its weights.

    With `trust` the model's own code is fetched too, at a full commit hash only, so that it cannot change unseen.
    Raises ModelError where `source` is none of these, is an adapter, or holds no safetensors; without network, at once.
    """
    if source == BUNDLED:
        return Path(str(resources.files("inheritune") / "assets" / "laptop-reference"))
    if source.startswith("bundled:"):
        raise ModelError(f"there is no bundled model {source!r}: {BUNDLED} is the only one.")
    path = Path(source).expanduser()
    if path.exists():
        if not path.is_dir() and not path.is_file():
            raise ModelError(f"{source!r} is a pipe, socket or device: give a model folder, a .gguf file or a hub id.")
        if path.is_dir():
            refuse_files(source, [entry.name for entry in path.iterdir()])
        return path
    if source.count("/") > 1 or path.is_absolute() or source.startswith((".", "~")) or path.suffix == ".gguf":
        raise ModelError(f"{source!r} does not exist: give a model folder, a .gguf file or a hub id.")
    if trust and not re.fullmatch("[0-9a-f]{40}", revision or ""):
        raise ModelError(
            f"the code of {source!r} is trusted at no revision {revision!r}: pin `revision` to a whole commit"
            " (40 characters), or fetch that, read it and give its folder."
        )
    return _fetched(source, revision, [*(_WHOLE if weights else _TOKENIZER), *(["*.py"] if trust else [])])


def refuse_files(source: str, names: Sequence[str]) -> None:
    """Raise ModelError where the names of files alone show an adapter, or GGUF files without safetensors."""
    if _ADAPTER in names:
        raise ModelError(
            f"{source!r} is a PEFT adapter: merge it into its base (merge_and_unload), save that, and give its folder."
        )
    ggufs = [name for name in names if name.endswith(".gguf")]
    if ggufs and not any(name.endswith(".safetensors") for name in names):
        raise ModelError(f"{source!r} holds GGUF files: name one of them, as {ggufs[0]!r}, by its path.")


def _fetched(source: str, revision: str | None, wanted: list[str]) -> Path:
    from huggingface_hub import HfApi, errors, snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    here = f"no folder {source!r} is here, and "
    try:
        online = hub_answers(source)
        if online and _WEIGHTS in wanted:
            info = HfApi().model_info(source, revision=revision, timeout=SECONDS)
            refuse_names(source, [file.rfilename for file in info.siblings or []])
        return Path(
            snapshot_download(
                source, revision=revision, allow_patterns=wanted, local_files_only=not online, etag_timeout=SECONDS
            )
        )
    except ModelError:
        raise
    except errors.GatedRepoError:
        raise ModelError(
            f"{source!r} asks for consent: accept its terms on the hub, and log in (hf auth login)."
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"{source!r} has no revision {revision!r}: name a branch, a tag or a commit of it.") from None
    except errors.RepositoryNotFoundError:
        raise ModelError(f"{here}the hub has no such model: check the name, or log in (hf auth login).") from None
    except errors.LocalEntryNotFoundError:
        raise ModelError(
            f"{here}the hub does not answer within {SECONDS:.0f} s: check the name and the network, or give a folder."
        ) from None
    except Exception as error:
        raise ModelError(
            f"{here}the hub gives no model ({type(error).__name__}): check the name and the network, or give a folder."
        ) from None


def refuse_names(source: str, names: Sequence[str]) -> None:
    """Raise ModelError for files on the hub that would be of no use here, before they are fetched."""
    refuse_files(source, names)
    if not any(name.endswith(".safetensors") for name in names):
        pickle = next((name for name in names if name.endswith((".bin", ".pt", ".pth"))), None)
        found = f"; {pickle} is a pickle, which is not read" if pickle else ""
        raise ModelError(f"{source!r} holds no safetensors weights{found}: save the model as safetensors.")


def hub_answers(source: str) -> bool:
    """Whether the hub answers within SECONDS, name resolution included, where its library tries for half a minute; a terminal is told."""
    if sys.stderr.isatty():
        print(f"Asking the hub for {source!r}, for at most {SECONDS:.0f} s", file=sys.stderr)
    watch_answers()
    answered = threading.Event()
    asking = threading.Thread(target=_ask, args=(answered,), daemon=True)
    asking.start()
    asking.join(SECONDS)
    return answered.is_set()


def _ask(answered: threading.Event) -> None:
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception:
        return
    answered.set()
