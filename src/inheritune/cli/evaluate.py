"""`inheritune evaluate`: a model on a text and on tasks, and what using it costs, beside its reference."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inheritune.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from inheritune.evaluation.found import EvaluatedModel, Evaluation, Rival
    from inheritune.evaluation.tasks import Difference
    from inheritune.evidence.gap import Gap
    from inheritune.progress import Progress
    from inheritune.records.guard import Guard
    from inheritune.records.token_by_token import Estimate, GoingOn, OfAnswers

_SHOWN = 3  # answers printed of both models; --json has all


def command(
    model: Annotated[
        str | None, typer.Argument(help="A model folder, a .gguf file or a hub id; with --run, the run's target.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="The model to compare with, on the same documents: a folder, a .gguf file or a hub id."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="A run folder: measure on what it held out, beside its reference; only --guard stands beside it."
        ),
    ] = None,
    data: Annotated[
        str,
        typer.Option("--data", "--text", help="A file, a folder, a glob, hf:ID of the hub, or bundled:docstrings."),
    ] = "bundled:docstrings",
    field: Annotated[str, typer.Option(help="The field of a JSONL object that holds the text.")] = "text",
    documents: Annotated[int, typer.Option(min=2, help="Most documents read.")] = 100,
    characters: Annotated[int, typer.Option(min=2, help="Characters read of each, from its start.")] = 8_000,
    length: Annotated[int, typer.Option(min=2, help="Tokens of a window; at most the model's positions.")] = 1024,
    tasks: Annotated[str | None, typer.Option(help="lm-eval's tasks, as in arc_easy,piqa.")] = None,
    task_files: Annotated[Path | None, typer.Option(help="A folder of lm-eval task files of your own.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most documents of each task.")] = None,
    guard: Annotated[
        bool, typer.Option("--guard", help="Ask both models small questions made by code, and tell what was lost.")
    ] = False,
    rivals: Annotated[
        str | None,
        typer.Option(
            help="gguf: also measure the reference in 8 and 4 bits and the model in 16, 8 and 4, by llama.cpp."
        ),
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="With --rivals: write quality over memory there, as SVG.")] = None,
    generation: Annotated[bool, typer.Option(help="Measure generation and memory.")] = True,
    dtype: Annotated[str, typer.Option(help="Of generation: float32, bfloat16 or float16.")] = "float32",
    margin: Annotated[float, typer.Option(help="Largest gap that is a match, in nats per token.")] = 0.01,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the model brings: read it first.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Evaluate a model: loss on a text, by position, in use and on tasks; beside its reference, paired."""
    import json

    from inheritune.data.kinds.docstrings import DOCSTRINGS
    from inheritune.evaluation.evaluate import find
    from inheritune.evaluation.wanted import Wanted
    from inheritune.models.load import dtype_named
    from inheritune.progress import Progress

    dtype_named(dtype)
    if figure is not None:
        _require_place(figure, rivals)
    progress = Progress(quiet, to_stderr=as_json)
    if run is not None:
        beside = {
            "--reference": reference,
            "--tasks": tasks,
            "--rivals": rivals,
            "--data": None if data == DOCSTRINGS else data,
        }
        found = _of_run(run, model, beside, progress, guard)
    elif model is None:
        raise InputError("no model is named: give a model, or --run with a run folder")
    else:
        names = tuple(name.strip() for name in (tasks or "").split(",") if name.strip())
        wanted = Wanted(
            data=data, field=field, documents=documents, characters=characters, length=length,
            tasks=names, task_files=task_files, limit=limit, guard=guard, rivals=rivals, generation=generation, dtype=dtype, margin=margin,
            trust_remote_code=trust_remote_code,
        )  # fmt: skip
        found = find(model, reference, progress, wanted)
    progress.close()
    if figure is not None and found.rivals:
        _draw(found, figure)
    if as_json:
        print(json.dumps(found.model_dump(exclude_unset=True), indent=1))
    else:
        _print(found)


def _of_run(
    run: Path, model: str | None, beside: dict[str, str | None], progress: "Progress", guard: bool
) -> "Evaluation":
    from inheritune.runs.again import evaluate_run

    for option, given in beside.items():
        if given is not None:
            raise InputError(
                f"{option} {given!r} stands beside --run, which measures a run's own documents and reference alone: leave one out"
            )
    return evaluate_run(run, model, progress, guard)


def _print(found: "Evaluation") -> None:
    from rich.table import Table

    from inheritune.progress import PlainConsole
    from inheritune.report.story import able
    from inheritune.report.words import sentence
    from inheritune.words import plural

    console, models = PlainConsole(), found.models
    text = f"On {plural(found.data.documents, 'document')}"
    for title, rows in ((text, _text(found)), ("Tasks", _tasks(found)), ("By position", _places(found))):
        heads = [entry.model for entry in models] + ["beside the reference"] * (len(models) - 1)
        table = Table("", title=title, box=None, title_justify="left")
        for head in heads:
            table.add_column(head, overflow="fold")
        for row in rows:
            table.add_row(*row[: len(heads) + 1])
        if table.row_count:
            console.print(table, "")
    if found.gap:
        console.print(_margin(found), "")
    if found.going_on:
        console.print(*_side_by_side(found.going_on, models), sep="\n", soft_wrap=True)
    if found.guard:
        console.print(_guard_table(found.guard, console.width), "", sentence(able(found.guard)), "")
    if found.rivals:
        console.print(_rivals_table(found.rivals), "")
    for note in found.notes:
        console.print(sentence(note))


def _require_place(figure: Path, rivals: str | None) -> None:
    """Check before anything is measured that there will be a figure, and make its folder."""
    from inheritune.disk.files import make_folder

    if rivals is None:
        raise InputError(f"--figure {str(figure)!r} shows rivals: give --rivals gguf, or leave it out")
    if figure.is_dir():
        raise InputError(f"--figure {str(figure)!r} is a folder: name a file")
    make_folder(figure.parent)


def _draw(found: "Evaluation", place: Path) -> None:
    """Draw quality over memory; in bits per byte where the tokens of model and reference differ."""
    from inheritune.disk.files import write_text, writing
    from inheritune.report.rivals_figure import PackedPoint, rivals_figure
    from inheritune.report.style import inline_svg, standalone_svg

    same = found.gap is not None and found.gap.nats_per_token is not None
    texts = [one.text for one in found.rivals or []] + [found.models[-1].text]
    *losses, reference = [(text.val_loss if same else text.bits_per_byte) or 0.0 for text in texts]
    points = [
        PackedPoint(one.bits, one.memory_bytes, loss, one.side == "model")
        for one, loss in zip(found.rivals or [], losses, strict=True)
    ]
    drawn = rivals_figure(points, reference, "nats per token" if same else "bits per byte")
    with writing(place):
        write_text(place, standalone_svg(inline_svg(drawn, "rivals")))


def _rivals_table(rivals: "list[Rival]") -> "Table":
    from rich.table import Table

    heads = ("", "disk, MB", "memory, MB", "loss", "bits per byte", "difference", "guard", "tokens/s")
    table = Table(*heads, title="In fewer bits, by llama.cpp", box=None, title_justify="left")
    for one in rivals:
        sizes = [f"{size / 1e6:,.1f}" for size in (one.disk_bytes, one.memory_bytes)]
        bits = "" if one.text.bits_per_byte is None else f"{one.text.bits_per_byte:.4f}"
        guard = "" if one.guard is None or not one.guard.rows else f"{one.guard.rows[-1].model:.2f}, {one.guard.told}"
        rate = "" if one.use is None else f"{one.use.tokens_per_second:.1f}"
        gap = _gap(one.gap.nats_per_token or one.gap.bits_per_byte)
        row = [f"{one.side} in {one.bits}", *sizes, f"{one.text.val_loss:.4f}", bits, gap, guard, rate]
        table.add_row(*row)
    return table


def _text(found: "Evaluation") -> Iterator[list[str]]:
    models, gap = found.models, found.gap
    texts = [entry.text for entry in models]
    yield ["blocks", *[str(entry.depth) for entry in models]]
    yield ["parameters", *[f"{entry.parameters:,}" for entry in models]]
    yield ["tokens", *[f"{text.tokens:,}" for text in texts]]
    yield [
        "loss, nats per token",
        *[f"{text.val_loss:.4f}" for text in texts],
        _gap(gap.nats_per_token if gap else None),
    ]
    yield ["perplexity", *[f"{text.perplexity:.3f}" for text in texts]]
    if bits := [text.bits_per_byte for text in texts if text.bits_per_byte is not None]:
        yield ["bits per byte", *[f"{each:.4f}" for each in bits], _gap(gap.bits_per_byte if gap else None)]
    if agreed := found.agreement:
        yield ["divergence from the reference, nats per token", "", "", _estimate(agreed.divergence)]
        yield ["same next token as the reference", "", "", _estimate(agreed.same_choice)]
        yield ["loss on rare tokens", "", "", _estimate(agreed.rare, "+")]
        yield ["loss on copied tokens", "", "", _estimate(agreed.copied, "+")]
    if gone := found.going_on:
        yield ["repeated tokens of an answer, share", *_answers(gone.repeated)]
        yield [f"tokens of an answer, at most {gone.most}", *_answers(gone.length)]
    if uses := [entry.use for entry in models if entry.use]:
        yield ["first token, ms", *[f"{1e3 * use.first_token_seconds:.1f}" for use in uses]]
        yield ["tokens per second", *[f"{use.tokens_per_second:.1f}" for use in uses]]
        yield ["peak memory, MB", *[f"{use.peak_bytes / 1e6:,.0f}" for use in uses]]
        yield ["of it before loading, MB", *[f"{use.base_bytes / 1e6:,.0f}" for use in uses]]


def _tasks(found: "Evaluation") -> Iterator[list[str]]:
    paired = {(row.task, row.metric): row for row in found.task_differences or []}
    for rows in zip(*[entry.tasks or [] for entry in found.models], strict=True):
        own = rows[0]
        values = [f"{row.value:.4f}" + (f" ± {row.error:.4f}" if row.error else "") for row in rows]
        yield [f"{own.task} {own.metric}", *values, _difference(paired.get((own.task, own.metric)))]


def _guard_table(guard: "Guard", width: int) -> "Table":
    """The guard's rows, with numbers never wrapped; below 100 columns the items and what chance would have right are left to `--json`."""
    from rich.table import Table

    left_out = 0 if width >= 100 else 2
    table = Table(
        title="Guard: share of the items that are right", box=None, title_justify="left", padding=(0, 1, 0, 0)
    )
    table.add_column()
    for head in ("items", "chance", "model", "reference", "difference", "lost, won", "share lost")[left_out:]:
        table.add_column(head, no_wrap=True)
    for row in guard.rows:
        numbers = [str(row.items), *(f"{share:.2f}" for share in (row.by_chance, row.model, row.reference))]
        between = f"{row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
        flips = f"{row.lost}, {row.won}", f"[{row.lost_low:.2f}, {row.lost_high:.2f}]"
        table.add_row(row.task, *numbers[left_out:], between, *flips)
    return table


def _margin(found: "Evaluation") -> str:
    bits = found.gap.margin_bits_per_byte if found.gap else None
    also = "" if bits is None else f" ({bits:.4f} bits per byte, which is as much of a reference's token)"
    whole = f"whole {100 * found.data.confidence:g}% interval"
    return f"A match is a difference whose {whole} lies below {found.data.margin:g} nats per token{also}."


def _places(found: "Evaluation") -> Iterator[list[str]]:
    gaps = [_estimate(gap, "+") for gap in found.gap_by_position or []]
    for number, places in enumerate(zip(*[entry.text.by_position for entry in found.models], strict=False)):
        losses = [f"{place.loss:.4f}" for place in places]
        yield [f"{places[0].first}-{places[0].last}", *losses, *gaps[number : number + 1]]


def _gap(gap: "Gap | None") -> str:
    return "" if gap is None else f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}] ({gap.verdict})"


def _estimate(found: "Estimate | None", sign: str = "") -> str:
    if found is None:
        return "in fewer than two documents"
    return f"{found.mean:{sign}.4f} [{found.low:{sign}.4f}, {found.high:{sign}.4f}]"


def _answers(found: "OfAnswers") -> list[str]:
    """Model, reference, and the difference with its interval."""
    between = f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
    return [f"{found.model:.4f}", f"{found.reference:.4f}", between]


def _side_by_side(gone: "GoingOn", models: "list[EvaluatedModel]") -> Iterator[str]:
    """Yield the first prompts, and how both models go on from each."""
    for one in gone.answers[:_SHOWN]:
        yield f"Both go on from: {_in_a_line(one.prompt)}"
        for entry, said in zip(models, (one.model, one.reference), strict=True):
            yield f"  {entry.model}: {_in_a_line(said)}"
        yield ""


def _in_a_line(text: str) -> str:
    return " ".join(text.split())


def _difference(row: "Difference | None") -> str:
    if row is None:
        return ""
    flips = (
        ""
        if row.lost is None
        else f", {row.lost} lost, {row.won} won ([{row.lost_low:.2f}, {row.lost_high:.2f}] lost, chance {row.chance:.2g})"
    )
    return f"{row.mean:+.4f} [{row.low:+.4f}, {row.high:+.4f}]{flips}"
