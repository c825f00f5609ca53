"""Attribution: each strategy's own books out of one account's events.

Every strategy has sub-books that hold what its own fills opened: one strategy's sale never closes another's
lots, so what is realised differs from the account's, and only the sum of realised and unrealised profit, the
cash and the quantities add up to it, exactly. A dividend is divided by what each holds; a strategy that is
short of what another holds pays for it.
"""

from collections.abc import Iterable

from neural_trader_governance.terms.money import Money, from_micros, to_micros
from neural_trader_tools.orders.accounting.amounts import allocate
from neural_trader_tools.orders.accounting.books import Books
from neural_trader_tools.orders.accounting.events import Event, Opened, Paid, Received, Renamed, Split, Traded
from neural_trader_tools.orders.accounting.lots import LotMethod

UNATTRIBUTED = ""
"""Fills that name no strategy, and cash that belongs to nobody's trades."""


def attribute(events: Iterable[Event], currency: str, method: LotMethod = "fifo") -> dict[str, Books]:
    """Returns the books of each strategy; deposits, interest and the opening cash are unattributed.

    Raises:
        InputError: `foreign_currency`.
        IntegrityError: as `Books.apply`.
    """
    books = {UNATTRIBUTED: Books(currency, method)}
    for event in events:
        match event:
            case Traded():
                books.setdefault(event.strategy, Books(currency, method)).apply(event)
            case Paid(symbol=str() as symbol):
                _divide(event, symbol, books)
            case Split() | Renamed():
                for each in books.values():
                    each.apply(event)
            case Opened() | Received() | Paid():
                books[UNATTRIBUTED].apply(event)
            case _:  # reservations belong to orders that have not traded
                pass
    return books


def _divide(event: Paid, symbol: str, books: dict[str, Books]) -> None:
    holders = {
        name: each.positions[symbol].quantity
        for name, each in books.items()
        if symbol in each.positions and each.positions[symbol].quantity
    }
    if not sum(holders.values()):
        books[UNATTRIBUTED].apply(event)
        return
    pieces = allocate(to_micros(event.amount.amount), list(holders.values()))
    for name, piece in zip(holders, pieces, strict=True):
        amount = Money(amount=from_micros(piece), currency=event.amount.currency)
        books[name].apply(event.model_copy(update={"amount": amount}))
