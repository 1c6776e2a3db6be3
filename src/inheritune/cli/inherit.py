"""`inheritune inherit`: a new model of some blocks of another."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inheritune.surgery.blockmap import parse

if TYPE_CHECKING:
    import torch

    from inheritune.records.model_folder import ModelOrigin


def command(
    source: Annotated[str, typer.Argument(help="A model folder, a .gguf file or a Hub id.")],
    dest: Annotated[Path, typer.Argument(help="The folder to write.")],
    blocks: Annotated[str, typer.Option(help="Blocks from 0, ranges inclusive: 0-11 or 0,1,2,9-14 or 0-5,3-8.")],
    parts: Annotated[str | None, typer.Option(help="Inherit only these: attention,mlp,norms.")] = None,
    outside: Annotated[str, typer.Option(help="Outside the blocks: all, as-released or none.")] = "all",
    heal: Annotated[Path | None, typer.Option(help="Repair the cut on this text (UTF-8).")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or bfloat16; kept if not given.")] = None,
    prove: Annotated[bool | None, typer.Option(help="Prove the cut; small models by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of what is not inherited.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing model's folder, with all that is in it.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the model brings: read it first.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Cut a model: keep the blocks named, with all that stands outside them, as a plain model folder."""
    from inheritune.models.find import locate
    from inheritune.progress import PlainConsole, Progress, Rates
    from inheritune.surgery.commands import inherit_folder
    from inheritune.surgery.requests import CutRequest

    cut = CutRequest(
        parse(blocks),
        parts=None if parts is None else [part.strip() for part in parts.split(",")],
        outside=outside,
        heal=heal,
        dtype=_dtype(dtype),
        proved=prove,
        seed=seed,
        trust=trust_remote_code,
    )
    with closing(Progress(quiet, to_stderr=True)) as progress:
        record = inherit_folder(locate(source, trust=trust_remote_code), dest, cut, force, Rates(progress))
    PlainConsole(soft_wrap=True).print(record.as_printed() if as_json else _sentence(record, dest))


def _dtype(name: str | None) -> "torch.dtype | None":
    """The torch dtype of this name; torch is imported only if one is given."""
    if name is None:
        return None
    from inheritune.models.load import dtype_named

    return dtype_named(name)


def _sentence(record: "ModelOrigin", dest: Path) -> str:
    """Say in a sentence what was done."""
    lines = [f"{dest}: {len(record.blocks)} of {record.reference_depth} blocks ({record.blocks_shown})"]
    if record.tower_of:
        lines.append(f"this is the text tower of a {record.tower_of!r} model: it reads text alone")
    if record.miscounted:
        lines.append(f"caution: {record.miscounted}")
    if record.healed:
        lines.append(f"healed: {record.healed.loss_before:.3f} to {record.healed.loss_after:.3f} nats per token")
    proof = f"proved to be the reference's own blocks, which says nothing of how good it is: {dest / 'proof.json'}"
    lines.append(proof if record.proved else "not proved (--prove asks for it)")
    return "\n".join(lines)
