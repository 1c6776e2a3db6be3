"""Upload a model folder to the hub, after saying what is uploaded, and where; private unless asked otherwise."""

import re
from pathlib import Path

from inheritune.errors import InherituneError, InputError, OutputError, plain
from inheritune.models.find import SECONDS, hub_answers
from inheritune.models.folder import CARD
from inheritune.progress import Progress
from inheritune.words import plural

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def upload(folder: Path, name: str, private: bool, force: bool, progress: Progress) -> str:
    """Upload a model folder as the repository `name`, and return its address.

    The card is validated by the hub first. Raises InputError where the card is refused or nobody is logged in, OutputError
    where the repository is there already and may not be changed (`force`), or the hub does not take it.
    """
    from huggingface_hub import HfApi, constants, get_token

    if not _ID.fullmatch(name):
        raise InputError(f"{name!r} is no name of a repository: give --out OWNER/NAME.")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    address = f"{constants.ENDPOINT}/{name}"
    size = sum(path.stat().st_size for path in files)
    progress.stage(
        f"Uploading {plural(len(files), 'file')}, {size / 1e6:,.1f} MB, to {address}, {'private' if private else 'public'}"
    )
    for path in files:
        progress.note(f"{path.name}, {path.stat().st_size / 1e6:,.1f} MB")
    if get_token() is None:
        raise InputError("nobody is logged in to the hub: hf auth login, or set HF_TOKEN.")
    if not hub_answers(name):
        raise OutputError(
            f"the hub does not answer within {SECONDS:.0f} s, and nothing was uploaded: check the network."
        )
    api = HfApi()
    try:
        if api.repo_exists(name) and not force:
            raise OutputError(
                f"{address} exists: choose another name, or give --force to put these files over its own."
            )
        _require_card(folder)
        with progress.waiting("Uploading"):
            api.create_repo(name, private=private, exist_ok=force)
            names = [path.name for path in files]
            api.upload_folder(
                repo_id=name, folder_path=folder, allow_patterns=names, commit_message="Made by Inheritune"
            )
    except InherituneError:
        raise
    except Exception as error:  # the hub's answers and the network's faults have no common kind
        said = getattr(error, "server_message", None) or error
        raise OutputError(f"the hub does not take {name}, in whole at least: {plain(said)[:300]}") from None
    return address


def _require_card(folder: Path) -> None:
    """Raise InputError where the hub says that the model card's head is not valid."""
    from huggingface_hub import ModelCard

    if (folder / CARD).is_file():
        try:
            ModelCard.load(folder / CARD).validate()
        except ValueError as error:
            raise InputError(f"the hub refuses the card {folder / CARD}: {plain(error)[:300]}") from None
