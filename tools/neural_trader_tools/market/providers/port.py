"""The provider port: what every source of market data offers, whatever its wire says.

A provider hands on what it was told, as it was told: the cells of a bar are the service's own text, so that a
row that cannot be read is quarantined with its content, and a price is rounded once, to float64.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, Protocol

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.instruments import AssetClass


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider has."""

    intervals: str
    """The bar lengths, in words."""
    has_actions: bool
    """Splits and cash dividends come with the bars."""
    asset_classes: tuple[AssetClass, ...]
    """The first is what a symbol that is new is listed as."""


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """Bars of some symbols at one interval, and their splits and dividends.

    `start` is inclusive and `end` exclusive, and both are compared with the bar's open.
    """

    symbols: tuple[str, ...]
    interval: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class RawBar:
    """One bar in the service's own words; see `landing` for what becomes of it."""

    symbol: str
    time: str
    open: str
    high: str
    low: str
    close: str
    volume: str


@dataclass(frozen=True, slots=True)
class RawAction:
    """A split or a cash dividend, checked by its provider."""

    symbol: str
    kind: Literal["split", "dividend"]
    ex_date: date
    value: float
    """New shares per old share, or cash per share in USD."""
    identity: str
    """As the service numbers it, so that a record which it shows twice counts once."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that a service sent and that cannot be used."""

    symbol: str
    reason: str
    content: str


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a service."""

    bars: list[RawBar]
    cursor: str | None
    """Where `history` goes on after this page, in another process too; None after the last."""
    digest: str
    """SHA-256 of the answer, hex."""
    actions: list[RawAction] = field(default_factory=list[RawAction])
    refused: list[Refused] = field(default_factory=list[Refused])


class HistoryProvider(Protocol):
    """Where history comes from."""

    @property
    def name(self) -> str:
        """Such as `alpaca`."""
        ...

    @property
    def dataset_id(self) -> str:
        """Names what is fetched in the archive: provider and feed."""
        ...

    @property
    def source(self) -> str:
        """In words: the service, the feed, the address."""
        ...

    @property
    def licence(self) -> str:
        """Under which terms the data come."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it has."""
        ...

    def check(self, request: HistoryRequest) -> None:
        """Returns where the request can be made; nothing is sent.

        Raises:
            InputError: a symbol or the interval is none that the service has.
            ConfigurationError: there is no key.
        """
        ...

    def history(self, request: HistoryRequest, cursor: str | None = None) -> AsyncGenerator[Page]:
        """Yields the pages of a request: first the splits and dividends, then bars, ascending by symbol.

        Args:
            request: What is wanted.
            cursor: Of the last page that was kept; None begins anew.

        Raises:
            ConfigurationError: there is no key, or the service refuses it.
            NetworkError: the service cannot be reached, fails, or wants a pause.
            DataError: what it answers is not what it documents.
        """
        ...

    async def aclose(self) -> None:
        """Closes its connections."""
        ...


def unsupported_interval(provider: str, interval: str, has: str) -> InputError:
    """The error of an interval that a provider does not have."""
    return InputError(
        "interval_not_offered", f"{provider} has no bars of {interval!r:.20}", f"use one of its own: {has}"
    )


def unsupported_symbol(provider: str, symbol: str) -> InputError:
    """The error of a symbol that is no US stock's."""
    return InputError(
        "symbol_not_offered",
        f"{symbol!r:.40} is no ticker of a US stock or ETF, which is what {provider} is asked for here",
        "use upper-case letters, with a dot before a class, such as BRK.B",
    )
