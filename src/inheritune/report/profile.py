"""A profile as Python callers have it: the record of a diagnosis, which prints as a table and is a figure in a notebook."""

from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderResult

from inheritune.progress import PlainConsole
from inheritune.records.profile import ProfileRecord
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
        """A row for each head, with its layer's influence; layers without softmax attention have none. Needs pandas."""
        import pandas

        rows = [
            {"layer": layer.index, "head": number, "influence": layer.influence, **head.model_dump()}
            for layer in self.layers
            for number, head in enumerate(layer.heads)
        ]
        return pandas.DataFrame(rows).set_index(["layer", "head"])

    def plot(self) -> "Figure":
        """Rank and mass by layer with one standard error, beside untrained weights, as a matplotlib figure."""
        from inheritune.report.profile_figures import rank_and_mass

        return rank_and_mass(self.model_dump())

    def _repr_png_(self) -> bytes:
        from inheritune.report.profile_figures import png

        return png(self.plot())
