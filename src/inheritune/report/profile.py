"""The profile that Python callers get: the record of a diagnosis, which prints as a table and shows as a figure in a notebook."""

from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderResult

from inheritune.progress import PlainConsole
from inheritune.records.profile import Layer, ProfileRecord
from inheritune.report.profile_table import table_lines

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


class Profile(ProfileRecord):
    """What every layer and head of a decoder does on one corpus: `ProfileRecord`, and how it is shown."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from table_lines(self)

    def __str__(self) -> str:
        console = PlainConsole(width=80, color_system=None)
        with console.capture() as capture:
            console.print(self)
        return capture.get()

    __repr__ = __str__

    def to_frame(self) -> "pandas.DataFrame":
        """A row of numbers for each head, with its layer's influence and MaxRank; NaN means not measured. Needs pandas.

        Where they were measured, the MaxRank of untrained weights is `max_rank_untrained`, that at another length `max_rank_at_1024`.
        Layers without softmax attention have no row.
        """
        import pandas

        rows = [
            {"layer": layer.index, "head": number, **self._of_layer(layer), **head.model_dump()}
            for layer in self.layers
            for number, head in enumerate(layer.heads)
        ]
        columns = list(rows[0]) if rows else ["layer", "head"]
        return pandas.DataFrame(rows, columns=columns).set_index(["layer", "head"]).astype(float)

    def _of_layer(self, layer: Layer) -> dict[str, float | None]:
        beside = {
            "untrained" if one.name == "untrained" else f"at_{one.length}": one.max_rank[layer.index]
            for one in self.contrasts
        }
        ranks = {f"max_rank_{name}": rank for name, rank in beside.items()}
        return {"influence": layer.influence, "max_rank": layer.max_rank, **ranks}

    def plot(self, caveat: bool = True) -> "Figure":
        """Rank and mass by layer with one standard error, beside untrained weights, as a matplotlib figure.

        A line below says what a rank hides; `caveat=False` leaves it out, for a paper that says it in its caption.
        """
        from inheritune.report.profile_figures import rank_and_mass

        return rank_and_mass(self.model_dump(), caveat=caveat)

    def _repr_png_(self) -> bytes:
        from inheritune.report.profile_figures import png

        return png(self.plot())
