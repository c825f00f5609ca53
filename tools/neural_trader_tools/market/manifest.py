"""The archive's manifest: which instruments, series and data sets there are, and the commit point.

Bars and actions lie in immutable Parquet files whose names carry their content's digest. The manifest
says which of them count. An import writes the new files first and replaces the manifest last, so the
replacement is the instant at which the import happened, for every reader at once.
"""

from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from neural_trader_governance.errors import IntegrityError, StorageError
from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.instruments import Instrument
from neural_trader_governance.terms.term import Term
from neural_trader_tools.market.durable import write_durably
from neural_trader_tools.market.renames import Rename

MANIFEST_NAME = "manifest.json"


class DataSet(Term):
    """Where rows came from, under which terms, and what an import made of them."""

    dataset_id: str = Field(max_length=80, description="Stable name, such as bokeh-stocks")
    source: str = Field(max_length=400)
    licence: str = Field(max_length=400)
    note: str = Field(default="", max_length=2000)
    imported_at: UtcTime
    file_name: str = Field(default="", max_length=255)
    file_digest: str = Field(description="SHA-256 of the imported file, hex")
    known_time_assumed: bool = Field(description="True where the source does not say when it was known")
    rows_read: int = Field(ge=0)
    rows_added: int = Field(ge=0, description="New rows, revisions included")
    rows_quarantined: int = Field(default=0, ge=0)


class Series(Term):
    """One symbol at one interval: where every revision of its bars is.

    Its rows are in a file of its own, in the parts of its interval, or in both.
    """

    file: str = Field(description="Path below the archive's root; empty where all rows are in parts")
    parted: bool = Field(default=False, description="Rows are in parts too")
    digest: str = Field(description="SHA-256 over the content, or over the contents that were added in turn")
    rows: int = Field(ge=0)
    revisions: int = Field(ge=0, description="Rows that replace an earlier row of the same event_time")
    first: UtcTime
    last: UtcTime = Field(description="event_time of the newest bar")
    newest_known_time: UtcTime = Field(description="When the newest bar could first be known")
    dataset_id: str


class Part(Term):
    """A Parquet file of many symbols at one interval, sorted by symbol, event_time and known_time.

    Its statistics say whether a read needs it at all; those of its row groups, which of its rows.
    """

    file: str = Field(description="Path below the archive's root")
    interval: str
    period: str = Field(default="", description="2019 or 2019-03; empty: as an import brought it")
    rows: int = Field(ge=0)
    first: UtcTime
    last: UtcTime
    first_known: UtcTime
    first_symbol: str
    last_symbol: str
    digest: str = Field(description="SHA-256 of the file's bytes")
    size: int = Field(ge=0, description="Bytes")
    location: str = Field(default="", description="URI of the object, where it is cold: not on this disk")

    def may_hold(self, symbol: str, start: datetime | None, end: datetime | None) -> bool:
        """Says whether rows of a symbol in a window can be in it."""
        return (
            self.first_symbol <= symbol <= self.last_symbol
            and (start is None or self.last >= start)
            and (end is None or self.first < end)
        )


class Actions(Term):
    """The Parquet file of a symbol's splits and dividends."""

    file: str
    digest: str
    rows: int = Field(ge=0)
    dataset_id: str


class Listing(Term):
    """An instrument and everything that is stored for it."""

    instrument: Instrument
    series: dict[str, Series] = Field(default_factory=dict, description="By interval")
    actions: Actions | None = None


class Manifest(Term):
    """The whole archive at one instant."""

    version: Literal[1] = 1
    listings: dict[str, Listing] = Field(default_factory=dict, description="By symbol")
    datasets: dict[str, DataSet] = Field(default_factory=dict, description="By dataset_id; newest import")
    renames: tuple[Rename, ...] = Field(default=(), description="Symbol changes, in the order of import")

    parts: tuple[Part, ...] = ()

    @cached_property
    def parts_by_interval(self) -> dict[str, list[Part]]:
        """The parts of each interval, as listed."""
        found: dict[str, list[Part]] = {}
        for part in self.parts:
            found.setdefault(part.interval, []).append(part)
        return found

    def with_parts(self, parts: tuple[Part, ...]) -> "Manifest":
        """Returns this state with other parts."""
        return Manifest(listings=self.listings, datasets=self.datasets, renames=self.renames, parts=parts)

    def renames_of(self, symbol: str) -> list[Rename]:
        """Returns the symbol changes that lead to a symbol or away from it, over any number of steps."""
        names, found = {symbol}, list[Rename]()
        rest = list(self.renames)
        while near := [one for one in rest if one.old in names or one.new in names]:
            found += near
            names |= {name for one in near for name in (one.old, one.new)}
            rest = [one for one in rest if one not in near]
        return found

    def files(self) -> set[str]:
        """Returns the paths, below the root, of every file that counts."""
        named = {series.file for listing in self.listings.values() for series in listing.series.values()}
        named |= {part.file for part in self.parts if not part.location}
        return named | {listing.actions.file for listing in self.listings.values() if listing.actions}


class ManifestFile:
    """Reads and replaces the manifest of one archive folder; reading is cached until it changes."""

    def __init__(self, root: Path) -> None:
        self._path = root / MANIFEST_NAME
        self._seen: tuple[tuple[int, int, int], Manifest] | None = None

    def read(self) -> Manifest:
        """Returns the manifest in force; an empty one where nothing was imported yet.

        Raises:
            IntegrityError: the file is there but is no manifest.
            StorageError: it cannot be read.
        """
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return Manifest()
        stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        seen = self._seen
        if seen is not None and seen[0] == stamp:
            return seen[1]
        try:
            manifest = Manifest.model_validate_json(self._path.read_bytes())
        except ValidationError as error:
            raise IntegrityError(
                "manifest_invalid",
                f"the archive's {MANIFEST_NAME} does not parse ({error.error_count()} problems)",
                "restore the archive folder from a copy, or import into a fresh one",
            ) from error
        except OSError as error:
            raise StorageError(
                "manifest_unreadable",
                f"the archive's {MANIFEST_NAME} cannot be read ({error.strerror})",
                "check the folder's permissions",
            ) from error
        self._seen = (stamp, manifest)
        return manifest

    def replace(self, manifest: Manifest) -> None:
        """Makes `manifest` the one in force, durably.

        Raises:
            StorageError: the disk refused; the former manifest stays in force.
        """
        content = manifest.model_dump_json().encode()
        write_durably(self._path, lambda file: file.write(content))
