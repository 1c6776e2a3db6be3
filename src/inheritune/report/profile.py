"""A profile as Python callers have it: the record of a diagnosis, which prints as a table and is a figure in a notebook."""

from rich.console import Console, ConsoleOptions, RenderResult

from inheritune.progress import PlainConsole
from inheritune.records.profile import ProfileRecord
from inheritune.report.profile_table import table_lines


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

    def _repr_png_(self) -> bytes:
        from inheritune.report.profile_figures import png, rank_and_mass

        return png(rank_and_mass(self.model_dump()))
