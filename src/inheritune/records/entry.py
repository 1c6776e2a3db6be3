"""The base of all records, and how one is kept in a file: written whole, validated when it is read."""

import json
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inheritune.disk.files import read_whole, write_text
from inheritune.disk.seals import BrokenSealError, sealed, sealing, unsealed
from inheritune.errors import OutputError

Count = Annotated[int, Field(ge=0)]
Depth = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Entry(BaseModel):
    """A part of a record: no unknown keys, no infinities, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Spent(Entry):
    """Compute: tokens processed, floating-point operations, wall-clock seconds."""

    tokens: Count
    flops: Amount
    seconds: Amount

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            tokens=self.tokens + other.tokens, flops=self.flops + other.flops, seconds=self.seconds + other.seconds
        )


NOTHING_SPENT = Spent(tokens=0, flops=0.0, seconds=0.0)


class JsonFile(Entry):
    """A record that is a file: one JSON object, named `NAME` in its folder."""

    NAME: ClassVar[str]
    WITH_DEFAULTS: ClassVar[bool] = False  # whether fields left at their defaults are written too
    MENDED_BY: ClassVar[str] = "remove it, and the same command makes it again"
    LEAVES: ClassVar[bool] = False  # whether it goes with a model to other folders, and so bears no seal

    def save(self, path: Path) -> None:
        """Write the file; a reader sees the old one or the new one, never a half. Raises OSError where the disk refuses."""
        tree = self.model_dump(mode="json", exclude_unset=not self.WITH_DEFAULTS)
        text = json.dumps(tree, indent=1) + "\n"
        write_text(path, text if self.LEAVES else sealed(text, sealing(path)))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file. Raises OutputError where it is missing, or damaged in any way."""
        try:
            return cls.model_validate_json(unsealed(read_whole(path), sealing(path)), strict=True)
        except OSError as error:
            raise OutputError(f"{str(path)!r} cannot be read ({error.strerror}): {cls.MENDED_BY}") from None
        except (ValidationError, BrokenSealError) as error:
            raise OutputError(f"{str(path)!r} is damaged ({first_fault(error)}): {cls.MENDED_BY}") from None


def first_fault(error: ValidationError | BrokenSealError) -> str:
    """The first fault that a file's seal or model finds, as `place: what`."""
    if isinstance(error, BrokenSealError):
        return str(error)
    first = error.errors(include_url=False)[0]
    place, said = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    return f"{place}: {said}" if place else said


def json_text(record: BaseModel, indent: int | None = 1) -> str:
    """A record as JSON in ASCII, so that no name in it sends control sequences to a terminal."""
    return json.dumps(record.model_dump(mode="json"), indent=indent)


def schema_text(record: type[BaseModel]) -> str:
    """The JSON schema of a record, as it stands in the package."""
    return json.dumps(record.model_json_schema(mode="serialization"), indent=2, sort_keys=True) + "\n"
