"""The stream port: what every source of live market data offers, beside its history (`port`).

A provider opens a connection that is signed in and subscribed, hands on frames as they came, and turns a
frame into events. What a service says about the connection itself (a subscription, an error) is a notice.
"""

import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from neural_trader_governance.errors import ConfigurationError, InputError, NetworkError, NeuralTraderError
from neural_trader_tools.market.feed.segments import Quarantined
from neural_trader_tools.market.feed.ticks import Event

Channel = Literal["trades", "quotes", "bars"]
CHANNELS: tuple[Channel, ...] = ("trades", "quotes", "bars")
EVERYTHING = "*"
SYMBOLS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a feed is asked for: channels of symbols; the symbol `*` is every one."""

    symbols: tuple[str, ...]
    channels: tuple[Channel, ...] = CHANNELS

    @property
    def is_everything(self) -> bool:
        """True where no symbol is named."""
        return EVERYTHING in self.symbols


@dataclass(frozen=True, slots=True)
class Notice:
    """What a service says about the connection."""

    text: str
    error: NeuralTraderError | None = None
    """Why the stream cannot go on, if so: `ConfigurationError` where no other try would help."""
    blames_provider: bool = True


class StreamEndedError(NetworkError):
    """A stream that worked does so no more; another connection may."""

    def __init__(self, code: str, what: str, next_step: str, *, blames_provider: bool = True) -> None:
        super().__init__(code, what, next_step)
        self.blames_provider = blames_provider


class Stream(Protocol):
    """A connection that is signed in and subscribed."""

    @property
    def notices(self) -> list[Notice]:
        """What the service said since they were last looked at; the reader empties it."""
        ...

    async def receive(self) -> bytes:
        """Returns the next frame, waiting for one.

        Raises:
            StreamEndedError: the connection is over.
        """
        ...

    def decode(self, frame: bytes, recv_ns: int) -> Sequence[Event | Quarantined]:
        """Returns the events in a frame, and what of it cannot be read; notices are put into `notices`.

        Raises:
            DataError: the frame is not what the service documents; msgspec's errors, any ValueError and
                RecursionError mean the same.
        """
        ...


class StreamProvider(Protocol):
    """Where live data come from."""

    @property
    def name(self) -> str:
        """Such as `alpaca`."""
        ...

    @property
    def dataset_id(self) -> str:
        """Names the feed, and what it leaves in the archive."""
        ...

    @property
    def source(self) -> str:
        """In words: the service, the feed, the address."""
        ...

    @property
    def licence(self) -> str:
        """Under which terms the data come."""
        ...

    def check(self, request: StreamRequest) -> None:
        """Returns where the request can be made; nothing is sent.

        Raises:
            InputError: a symbol is none that the service has, or there are none or too many.
            ConfigurationError: there is no key.
        """
        ...

    def open(self, request: StreamRequest) -> AbstractAsyncContextManager[Stream]:
        """Connects, signs in and subscribes; the service has confirmed all of it when the context begins.

        Raises:
            ConfigurationError: the key or the plan does not allow it: no other try helps.
            StreamEndedError: the service cannot be reached, fails, or wants a pause.
        """
        ...


def check_symbols(provider: str, request: StreamRequest, is_ticker: re.Pattern[str]) -> None:
    """Passes a request that names something, in the spelling of US stocks.

    Args:
        provider: For the message.
        request: What is wanted.
        is_ticker: A compiled pattern.

    Raises:
        InputError: it does not.
    """
    if not 1 <= len(request.symbols) <= SYMBOLS_MAX or not request.channels:
        raise InputError(
            "invalid_stream",
            f"{len(request.symbols)} symbols and {len(request.channels)} channels were asked for",
            f"name 1 to {SYMBOLS_MAX} symbols, or * for every one, and at least one of {', '.join(CHANNELS)}",
        )
    for symbol in request.symbols:
        if symbol != EVERYTHING and not is_ticker.fullmatch(symbol):
            raise InputError(
                "symbol_not_offered",
                f"{symbol!r:.40} is no ticker of a US stock or ETF, which is what {provider} has here",
                "use upper-case letters, with a dot before a class, such as BRK.B; or * for every one",
            )


def key_missing(url: str, advice: str) -> ConfigurationError:
    """The error of a stream without a key."""
    return ConfigurationError("provider_key_missing", f"there is no API key for {url}", advice)


def raise_for(notice: Notice) -> None:
    """Raises what a notice with an error means; does nothing over another.

    Raises:
        ConfigurationError: no other try helps.
        StreamEndedError: another may.
    """
    error = notice.error
    if error is None:
        return
    if isinstance(error, ConfigurationError):
        raise error
    raise StreamEndedError(error.code, error.what, error.next_step, blames_provider=notice.blames_provider)
