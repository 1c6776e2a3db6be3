"""`inheritune prepare`."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    source: Annotated[str, typer.Argument(help="A file, a folder, a glob in quotes, or hf:ID of the hub.")],
    dest: Annotated[Path, typer.Argument(help="The folder to write; the same command goes on after a stop.")],
    tokenizer: Annotated[str, typer.Option(help="A model's folder or hub id, or bundled:laptop.")],
    field: Annotated[str, typer.Option(help="The field or column that holds the text, or messages.")] = "text",
    valid_share: Annotated[float, typer.Option(help="Share of documents held out for validation; 0: none.")] = 0.05,
    name: Annotated[str | None, typer.Option(help="Which configuration of a hub dataset.")] = None,
    split: Annotated[str | None, typer.Option(help="Which split of a dataset; train if not given.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub dataset.")] = None,
    loss_on: Annotated[
        str, typer.Option(help="all, or assistant: keep which tokens of messages are the assistant's.")
    ] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON, and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Tokenise a text of any size into a folder that runs read as it is: data.train=DEST."""
    import json

    from inheritune.data.building import Job
    from inheritune.data.coding import Coding
    from inheritune.data.corpora import named, require
    from inheritune.data.tokens import prepare_folder
    from inheritune.errors import InputError
    from inheritune.models.reference import load_tokenizer
    from inheritune.progress import Progress
    from inheritune.records.prepared import ASSISTANT

    if not 0 <= valid_share < 1:
        raise InputError(f"--valid-share is {valid_share}: give a share from 0 to below 1")
    if loss_on not in ("all", ASSISTANT):
        raise InputError(f"--loss-on is {loss_on!r}: give all or assistant")
    wanted = named(source).model_copy(update={"name": name, "split": split, "revision": revision})
    require([wanted])
    words = load_tokenizer(tokenizer)
    progress = Progress(quiet, to_stderr=as_json)
    progress.stage(f"Preparing {source}")
    coding = Coding.of_model(words, loss_on=loss_on)
    job = Job([wanted], [], field, valid_share, coding, "another --valid-share (0 holds none back)")
    try:
        manifest = prepare_folder(job, dest, progress.now)
    finally:
        progress.close()
    if as_json:
        print(json.dumps(manifest.model_dump(mode="json", exclude_unset=True)))
        return
    train, valid = manifest.sides.train, manifest.sides.valid
    progress.stage(
        f"{dest}: {train.tokens:,} training tokens of {train.documents:,} documents, {valid.tokens:,} of"
        f" {valid.documents:,} for validation, {manifest.repeats:,} repeats left out"
    )
    if any(source.held_out == "sections" for source in manifest.sources):
        progress.note(
            f"Too few books or files to hold some out whole: sections of {valid.books:,} are held out, and the others trained on"
        )
