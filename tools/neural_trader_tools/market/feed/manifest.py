"""The manifest of recorded ticks: which Parquet files count, and up to which journal segment they reach.

A compaction writes new files first and replaces the manifest last: the replacement is the instant at which
rows move from the journal to Parquet. A row is therefore always in exactly one of the two.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from neural_trader_governance.errors import IntegrityError, StorageError
from neural_trader_governance.terms.term import Term
from neural_trader_tools.market.durable import write_durably

MANIFEST_NAME = "ticks.json"


class Part(Term):
    """One Parquet file, sorted by symbol and event_time, of one kind and one UTC date."""

    file: str = Field(description="Path below the root")
    rows: int = Field(ge=1)
    first_segment: int = Field(ge=1)
    last_segment: int = Field(ge=1)


class TickManifest(Term):
    """All recorded ticks that were compacted."""

    version: Literal[1] = 1
    compacted_through: dict[str, int] = Field(
        default_factory=dict, description="By kind, the last journal segment whose rows are in Parquet"
    )
    parts: dict[str, dict[str, tuple[Part, ...]]] = Field(
        default_factory=dict, description="By kind, then by date (YYYY-MM-DD)"
    )

    def files(self) -> set[str]:
        """Returns the paths, below the root, of every file that counts."""
        return {part.file for dates in self.parts.values() for parts in dates.values() for part in parts}

    def rows(self, kind: str) -> int:
        """Returns how many rows of a kind are in Parquet."""
        return sum(part.rows for parts in self.parts.get(kind, {}).values() for part in parts)


def read_manifest(root: Path) -> TickManifest:
    """Returns the manifest in force; an empty one where nothing was compacted yet.

    Raises:
        IntegrityError: the file is there but is no manifest.
        StorageError: it cannot be read.
    """
    try:
        return TickManifest.model_validate_json((root / MANIFEST_NAME).read_bytes())
    except FileNotFoundError:
        return TickManifest()
    except ValidationError as error:
        raise IntegrityError(
            "tick_manifest_invalid",
            f"{MANIFEST_NAME} does not parse ({error.error_count()} problems)",
            "restore the folder from a copy",
        ) from error
    except OSError as error:
        raise StorageError(
            "tick_manifest_unreadable",
            f"{MANIFEST_NAME} cannot be read ({error.strerror})",
            "check the folder's permissions",
        ) from error


def replace_manifest(root: Path, manifest: TickManifest) -> None:
    """Makes `manifest` the one in force, durably.

    Raises:
        StorageError: the disk refused; the former manifest stays in force.
    """
    content = manifest.model_dump_json(indent=1).encode()
    write_durably(root / MANIFEST_NAME, lambda file: file.write(content))
