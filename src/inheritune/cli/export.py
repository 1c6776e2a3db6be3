"""`inheritune export`: a finished model for llama.cpp, Ollama, the hub or MLX."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inheritune.errors import InputError

if TYPE_CHECKING:
    from inheritune.formats.gguf import GgufFile
    from inheritune.models.llama_cpp import Packed
    from inheritune.progress import Progress


class Format(StrEnum):
    """The formats that a model can be exported to."""

    GGUF = "gguf"
    OLLAMA = "ollama"
    HUB = "hub"
    MLX = "mlx"


class Quantised(StrEnum):
    """How a GGUF file's weights can be packed."""

    Q8_0 = "q8_0"
    Q4_K_M = "q4_k_m"


def command(
    source: Annotated[
        str, typer.Argument(metavar="RUN|MODEL", help="A finished run, a model folder or bundled:laptop.")
    ],
    to: Annotated[
        Format, typer.Option(metavar="gguf|ollama|hub|mlx", help="For llama.cpp, Ollama, the Hugging Face hub or MLX.")
    ],
    quantise: Annotated[
        Quantised | None, typer.Option(metavar="q8_0|q4_k_m", help="Pack a GGUF file's weights.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="The file or folder to write; for the hub OWNER/NAME.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Of the hub: for everybody to see.")] = False,
    check: Annotated[bool, typer.Option(help="Hold llama.cpp's first tokens against transformers'.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace what stands at --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON, and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Hand a model over: as GGUF, with a Modelfile for Ollama, to the hub, or in MLX's format."""
    if quantise and to not in (Format.GGUF, Format.OLLAMA):
        raise InputError(f"--quantise {quantise.value} is of GGUF files: leave it out with --to {to.value}.")
    if public and to is not Format.HUB:
        raise InputError(f"--public is of the hub: leave it out with --to {to.value}.")
    _require_tools(to, quantise)
    from inheritune.formats.source import caution, model_folder, name_of
    from inheritune.progress import Progress

    progress = Progress(quiet, to_stderr=as_json)
    folder = model_folder(source)
    if out is None and to is Format.HUB:
        raise InputError("the hub needs a name: give --out OWNER/NAME.")
    ending = {Format.GGUF: ".gguf", Format.OLLAMA: "-ollama", Format.MLX: "-mlx"}.get(to, "")
    place = out or f"{name_of(source, folder)}{f'-{quantise.value}' if quantise else ''}{ending}"
    made = None
    try:
        if to is Format.HUB:
            from inheritune.formats.hub import upload

            place = upload(folder, place, not public, force, progress)
        elif to is Format.MLX:
            _mlx(folder, Path(place), force, progress)
        else:
            made = _gguf(folder, Path(place), quantise, progress, ollama=to is Format.OLLAMA, check=check, force=force)
    finally:
        progress.close()
    cautioned = caution(folder) if made else None
    if as_json:
        told = {"to": to.value, "out": place, "gguf": made and made.model_dump(), "caution": cautioned}
        print(json.dumps(told, indent=1))
        return
    for line in (place, *(_said(made) if made else ()), *([f"caution: {cautioned}"] if cautioned else ())):
        print(line)


def _require_tools(to: Format, quantise: Quantised | None) -> None:
    """Raise ModelError where a tool is missing: before anything else, as it is looked for without torch."""
    if to is Format.MLX:
        from inheritune.formats.mlx import require_mlx

        require_mlx()
    elif to in (Format.GGUF, Format.OLLAMA):
        from inheritune.models.llama_cpp import require_tools

        require_tools(quantise.value if quantise else None)  # type: ignore[arg-type]


def _mlx(folder: Path, out: Path, force: bool, progress: "Progress") -> None:
    from inheritune.formats.mlx import make_mlx
    from inheritune.models.folder import placed, require_place

    require_place(out, [folder], force)
    with placed(out, force) as new, progress.waiting("Converting, by mlx-lm"):
        make_mlx(folder, new)


def _gguf(
    folder: Path, out: Path, quantise: Quantised | None, progress: "Progress", *, ollama: bool, check: bool, force: bool
) -> "GgufFile":
    from inheritune.disk.files import write_text
    from inheritune.formats.gguf import make_gguf, require_free, require_packable
    from inheritune.formats.ollama import GGUF, modelfile
    from inheritune.models.folder import MODELFILE, placed, require_place

    packed: Packed | None = quantise.value if quantise else None  # type: ignore[assignment]
    require_packable(folder, packed)
    if not ollama:
        require_free(out, force)
        return make_gguf(folder, out, packed, check, progress)
    require_place(out, [folder], force)
    with placed(out, force) as new:
        written = modelfile(folder)
        made = make_gguf(folder, new / GGUF, packed, check, progress)
        write_text(new / MODELFILE, written)
    return made


def _said(made: "GgufFile") -> list[str]:
    lines = [f"{made.bytes / 1e6:,.1f} MB, weights as {made.weights}"]
    if made.unpacked_same:
        lines.append(f"llama.cpp, before packing: {made.unpacked_same}")
    if made.same:
        expected = "; packed weights differ a little, so it is expected that some tokens do"
        lines.append(f"llama.cpp: {made.same}{expected if made.packed and made.same.parted else ''}")
        if made.weights == "q8_0" and not made.unpacked_same:
            lines.append(
                "the weights before packing were not checked: the converter packed them itself (llama-quantize is not here)"
            )
    if made.unchecked:
        lines.append(f"not checked in llama.cpp: {made.unchecked}")
    return lines
