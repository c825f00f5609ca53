"""The manifest of articles: which Parquet files count, and where what is in them came from."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from neural_trader_governance.errors import IntegrityError, StorageError
from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.term import Term
from neural_trader_tools.market.durable import write_durably

MANIFEST_NAME = "news.json"


class NewsPart(Term):
    """One Parquet file: a month's articles with every revision."""

    file: str
    rows: int = Field(ge=1)


class NewsSource(Term):
    """Where articles came from; each row says the digest of its own document."""

    name: str = Field(min_length=1, max_length=300)
    kind: Literal["feed", "file"]
    address: str = Field(max_length=1_000, description="Of the feed, without its query; or the file's name")
    licence: str = Field(max_length=400)
    received_time: UtcTime = Field(description="When something new came from it last")


class NewsManifest(Term):
    """All articles at one instant."""

    version: Literal[1] = 1
    parts: dict[str, NewsPart] = Field(default_factory=dict, description="By month, such as 2026-11")
    sources: dict[str, NewsSource] = Field(default_factory=dict, description="By name")


def read_manifest(root: Path) -> NewsManifest:
    """Returns the manifest in force; an empty one where nothing was imported yet.

    Raises:
        IntegrityError: the file is there but is no manifest.
        StorageError: it cannot be read.
    """
    try:
        return NewsManifest.model_validate_json((root / MANIFEST_NAME).read_bytes())
    except FileNotFoundError:
        return NewsManifest()
    except ValidationError as error:
        raise damaged(f"{MANIFEST_NAME} has {error.error_count()} problems") from error
    except OSError as error:
        raise StorageError(
            "news_unreadable",
            f"{MANIFEST_NAME} cannot be read ({error.strerror})",
            "check the permissions of the archive's folder",
        ) from error


def replace_manifest(root: Path, manifest: NewsManifest) -> None:
    """Makes `manifest` the one in force, durably.

    Raises:
        StorageError: the disk refused; the former manifest stays in force.
    """
    content = manifest.model_dump_json(indent=1).encode()
    write_durably(root / MANIFEST_NAME, lambda file: file.write(content))


def damaged(why: str) -> IntegrityError:
    """Returns the error of articles that do not parse."""
    return IntegrityError(
        "news_damaged",
        f"the archive's articles cannot be read ({why})",
        "restore news.json and the folder news/ from a copy, or move them away and import again",
    )
