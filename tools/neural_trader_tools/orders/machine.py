"""The order state machine: one explicit table of what may follow what.

A preview becomes an order when it is submitted; the states before that belong to the preview
(`TRANSITIONS`). An order is then moved by events (`TABLE`), and only `follow` moves it: a pure function of
the state, the event and what is filled, so that the log's entries, played again, end in the same state
(`orders/history.py`).

Three rules stand above the table. What is filled decides, not what a venue calls it: an order is filled when
its quantity is, whatever was said before, and a venue that says `filled` before its fills are known leaves
it working. A fill is legal after a cancel, an expiry or a replacement, because the venue decides which came
first; it revives nothing. And news that was overtaken on its way changes nothing.
"""

from decimal import Decimal
from enum import StrEnum

from neural_trader_governance.errors import ExecutionError
from neural_trader_governance.terms.orders import OrderState

S = OrderState


class Event(StrEnum):
    """What can happen to a submitted order; the first seven are a venue's words."""

    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    REPLACED = "replaced"
    CANCEL_ASKED = "pending_cancel"
    REPLACE_ASKED = "pending_replace"
    REPLACE_REFUSED = "replace_refused"
    UNCLEAR = "unknown"
    """No answer, or none that says what became of it: neither taken nor refused."""
    NEVER_ARRIVED = "never_arrived"
    """The venue has barred an id that it never saw."""


PREVIEW_TRANSITIONS: dict[OrderState, frozenset[OrderState]] = {
    S.PREVIEWED: frozenset({S.SUBMITTED, S.DENIED, S.EXPIRED, S.AWAITING_APPROVAL}),
    S.AWAITING_APPROVAL: frozenset({S.APPROVED, S.REJECTED, S.DENIED, S.EXPIRED}),
    S.APPROVED: frozenset({S.SUBMITTED, S.DENIED, S.REJECTED, S.EXPIRED, S.AWAITING_APPROVAL}),
    S.DENIED: frozenset(),
}
"""Ours alone: `denied` is said by policy and never by a venue, whose word is `rejected`."""

_SHORT = {
    "sub": S.SUBMITTED,
    "acc": S.ACCEPTED,
    "par": S.PARTIALLY_FILLED,
    "fil": S.FILLED,
    "pca": S.PENDING_CANCEL,
    "prp": S.PENDING_REPLACE,
    "unk": S.UNKNOWN,
    "can": S.CANCELED,
    "exp": S.EXPIRED,
    "rej": S.REJECTED,
    "rpl": S.REPLACED,
}

_GRID = """
     accepted partially_filled filled canceled expired rejected replaced pending_cancel pending_replace replace_refused unknown never_arrived
sub  acc      par              fil    can      exp     rej      rpl      pca            -               -               unk     can
unk  acc      par              fil    can      exp     rej      rpl      pca            -               -               .       can
acc  .        par              fil    can      exp     rej      rpl      pca            prp             .               .       -
par  .        .                fil    can      exp     can      rpl      pca            prp             .               .       -
pca  .        .                fil    can      exp     rej      rpl      .              -               .               .       can
prp  .        .                fil    can      exp     can      rpl      pca            .               acc             .       -
can  .        .                fil    .        .       .        .        -              -               .               .       .
exp  .        .                fil    .        .       .        .        -              -               .               .       .
rpl  .        .                fil    .        .       .        .        -              -               .               .       .
rej  .        -                -      .        .       .        .        -              -               .               .       .
fil  .        .                .      .        .       .        .        -              -               .               .       .
"""  # noqa: E501 - a table is read by its columns
"""A row for each state, a column for each event: the state that follows; `.` it stays, `-` it cannot be."""


def _read_grid() -> dict[OrderState, dict[Event, OrderState]]:
    head, *rows = _GRID.strip().splitlines()
    events = [Event(name) for name in head.split()]
    table: dict[OrderState, dict[Event, OrderState]] = {}
    for row in rows:
        name, *cells = row.split()
        state = _SHORT[name]
        table[state] = {
            event: state if cell == "." else _SHORT[cell]
            for event, cell in zip(events, cells, strict=True)
            if cell != "-"
        }
    return table


TABLE = _read_grid()

TRANSITIONS: dict[OrderState, frozenset[OrderState]] = PREVIEW_TRANSITIONS | {
    state: frozenset(row.values()) - {state} for state, row in TABLE.items()
}

WORKING = frozenset(
    {S.SUBMITTED, S.ACCEPTED, S.PARTIALLY_FILLED, S.PENDING_CANCEL, S.PENDING_REPLACE, S.UNKNOWN}
)
"""States in which the venue may still fill, so that cash stays reserved."""


def follow(
    current: OrderState, event: Event, *, filled: Decimal = Decimal(0), quantity: Decimal | None = None
) -> OrderState:
    """Returns the state that follows an event.

    Args:
        current: The order's state.
        event: What happened.
        filled: What is booked of it, the event's own fills included.
        quantity: What was ordered; None where no fill is in question.

    Raises:
        ExecutionError: the table has no such transition; nothing may be written.
    """
    if quantity is not None:
        if filled >= quantity and Event.FILLED in TABLE.get(current, {}):
            event = Event.FILLED
        elif event == Event.FILLED:  # its fills are on their way
            event = Event.PARTIALLY_FILLED if filled else Event.ACCEPTED
    row = TABLE.get(current, {})
    if event in row:
        # A replacement that is refused leaves the order as it was, which may be filled in part.
        return S.PARTIALLY_FILLED if filled and row[event] == S.ACCEPTED else row[event]
    raise ExecutionError(
        "illegal_transition",
        f"an order that is {current} cannot become {event}",
        "run: neural-trader orders reconcile",
    )


def advance(current: OrderState, following: OrderState) -> OrderState:
    """Returns the following state if the table allows it; staying is always allowed.

    Raises:
        ExecutionError: the table has no such transition; nothing may be written.
    """
    if following == current or following in TRANSITIONS[current]:
        return following
    raise ExecutionError(
        "illegal_transition",
        f"an order that is {current} cannot become {following}",
        "run: neural-trader orders reconcile",
    )
