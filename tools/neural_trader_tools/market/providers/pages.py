"""Pages: where a provider's history goes on, and how rows of its answers are read.

A cursor is text that means something in another process too: the part (splits, dividends or bars), the symbol
where a service is asked for one at a time, and the service's own page token.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import Final, Literal, TypeVar

import msgspec

from neural_trader_governance.errors import DataError
from neural_trader_tools.market.providers.port import HistoryRequest, Page, RawAction, RawBar, Refused

EMPTY_PAGES_MAX: Final = 100
"""A service that says "there is more" so often, and shows nothing, will say it for ever."""
CONTENT_MAX = 200
TOKEN_LENGTH_MAX = 4096
VALUE_MAX = 1e6
"""No split and no dividend is larger; beyond it, it is another field."""

Row = TypeVar("Row", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a history goes on."""

    part: str
    symbol: str
    """The one that is being read; the first where a service takes them all at once."""
    token: str | None = None

    @classmethod
    def read(cls, text: str | None, parts: tuple[str, ...], symbols: tuple[str, ...]) -> "Cursor | None":
        """Returns where to begin: at the first part without a text.

        Raises:
            DataError: the text is none of ours for this request.
        """
        if text is None:
            return cls(parts[0], symbols[0])
        try:
            part, symbol, token = json.loads(text)
        except (ValueError, TypeError):
            part = symbol = token = None
        if part not in parts or symbol not in symbols or not (token is None or isinstance(token, str)):
            raise DataError(
                "cursor_invalid",
                f"{text!r:.80} is no place in this request",
                "begin anew: neural-trader data fetch … --restart",
            )
        return cls(part, symbol, token)

    @property
    def text(self) -> str:
        """What `read` takes."""
        return json.dumps([self.part, self.symbol, self.token])

    def into(self, params: dict[str, str], name: str) -> dict[str, str]:
        """Returns the parameters of the request for this page."""
        return params | ({name: self.token} if self.token else {})

    def after(self, token: str | None) -> "Cursor | None":
        """Returns the next page of the same part; None without a token."""
        if not token:
            return None
        if len(token) > TOKEN_LENGTH_MAX:
            raise DataError(
                "provider_answer_malformed", f"a page token of {len(token)} characters", "try again later"
            )
        return replace(self, token=token)

    def next_part(self, part: str) -> "Cursor":
        """Returns the beginning of another part, for the same symbol."""
        return replace(self, part=part, token=None)

    def next_symbol(self, part: str, symbols: tuple[str, ...]) -> "Cursor | None":
        """Returns the beginning of the next symbol; None after the last."""
        rest = symbols[symbols.index(self.symbol) + 1 :]
        return Cursor(part, rest[0]) if rest else None


class PageTurner:
    """Notices a service that never ends: a page token twice, or pages without anything on them.

    Args:
        provider: Its name, for the message.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._seen: set[Cursor] = set()
        self._empty = 0

    def turn(self, at: Cursor) -> None:
        """Goes to a page.

        Raises:
            DataError: `provider_pages_repeat`.
        """
        if at in self._seen or self._empty > EMPTY_PAGES_MAX:
            what = "the same page again" if at in self._seen else f"more than {self._empty - 1} empty pages"
            raise DataError(
                "provider_pages_repeat",
                f"{self._provider} leads from page to page without an end: {what}",
                "try again later; what was fetched so far is kept",
            )
        self._seen.add(at)

    def saw(self, page: Page) -> None:
        """Takes note of what a page held."""
        self._empty = 0 if page.bars or page.actions or page.refused else self._empty + 1


def raw_bar(symbol: str, row: msgspec.Raw, names: tuple[str, ...]) -> RawBar | Refused:
    """Reads one bar of an answer, keeping its cells as they were written.

    Args:
        symbol: Whose bar it is.
        row: A JSON object.
        names: Its fields for time, open, high, low, close and volume.
    """
    try:
        cells = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Refused(symbol, "a bar that is no JSON object", text_of(row))
    missing = [name for name in names if name not in cells]
    if missing:
        return Refused(symbol, f"a bar without {', '.join(missing)}", text_of(row))
    time, *values = (text_of(cells[name]) for name in names)
    return RawBar(symbol, time[1:-1] if time.startswith('"') else time, *values)


def checked_action(
    request: HistoryRequest,
    row: msgspec.Raw,
    kind: type[Row],
    meaning: Callable[[Row], tuple[Literal["split", "dividend"], float]],
) -> RawAction | Refused | None:
    """Reads a split or a dividend.

    Args:
        request: Actions outside its range are nobody's concern: None.
        row: A JSON object with at least `symbol` (or `ticker`) and `ex_date`.
        kind: What it must be.
        meaning: Returns what it is and its value; ValueError says why it is not.
    """
    try:
        one = msgspec.json.decode(row, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Refused(
            "", f"a corporate action that is not as documented: {error}"[:CONTENT_MAX], text_of(row)
        )
    fields = msgspec.structs.asdict(one)
    symbol = str(fields["symbol"])
    if symbol not in request.symbols:
        return Refused(symbol[:40], "a corporate action of a symbol that was not asked for", text_of(row))
    try:
        day = date.fromisoformat(str(fields["ex_date"]))
        what, value = meaning(one)
        if not (math.isfinite(value) and 0 < value <= VALUE_MAX):
            raise ValueError(f"a {what} of {value:g}")
    except ValueError as error:
        return Refused(
            symbol, f"not a corporate action that can be used: {error}"[:CONTENT_MAX], text_of(row)
        )
    if not request.start.date() <= day <= request.end.date():
        return None
    return RawAction(symbol, what, day, value, str(fields["id"]))


def text_of(raw: msgspec.Raw) -> str:
    """Returns a piece of JSON as it was written, cut."""
    return bytes(raw)[: CONTENT_MAX * 4].decode("utf-8", "replace")[:CONTENT_MAX]
