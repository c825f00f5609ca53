"""The order state machine: one explicit table of what may follow what.

A preview becomes an order when it is submitted; the states before that belong to the preview.
A fill is legal after a cancel was asked for, because the venue decides which came first.
"""

from neural_trader_governance.errors import ExecutionError
from neural_trader_governance.terms.orders import OrderState

S = OrderState

TRANSITIONS: dict[OrderState, frozenset[OrderState]] = {
    S.PREVIEWED: frozenset({S.SUBMITTED, S.DENIED, S.EXPIRED, S.AWAITING_APPROVAL}),
    S.AWAITING_APPROVAL: frozenset({S.APPROVED, S.REJECTED, S.DENIED, S.EXPIRED}),
    S.APPROVED: frozenset({S.SUBMITTED, S.DENIED, S.REJECTED, S.EXPIRED, S.AWAITING_APPROVAL}),
    S.SUBMITTED: frozenset(
        {
            S.ACCEPTED,
            S.PARTIALLY_FILLED,
            S.FILLED,
            S.REJECTED,
            S.CANCELED,
            S.EXPIRED,
            S.UNKNOWN,
            S.PENDING_CANCEL,
        }
    ),
    S.ACCEPTED: frozenset(
        {S.PARTIALLY_FILLED, S.FILLED, S.PENDING_CANCEL, S.CANCELED, S.EXPIRED, S.REPLACED, S.REJECTED}
    ),
    S.PARTIALLY_FILLED: frozenset(
        {S.PARTIALLY_FILLED, S.FILLED, S.PENDING_CANCEL, S.CANCELED, S.EXPIRED, S.REPLACED}
    ),
    S.PENDING_CANCEL: frozenset(
        {S.CANCELED, S.FILLED, S.PARTIALLY_FILLED, S.ACCEPTED, S.EXPIRED, S.REJECTED}
    ),
    S.UNKNOWN: frozenset(
        {
            S.ACCEPTED,
            S.PARTIALLY_FILLED,
            S.FILLED,
            S.PENDING_CANCEL,  # a venue that never saw the order bars it
            S.CANCELED,
            S.EXPIRED,
            S.REJECTED,
        }
    ),
    S.REJECTED: frozenset(),
    S.DENIED: frozenset(),
    S.EXPIRED: frozenset({S.FILLED}),
    S.FILLED: frozenset(),
    S.CANCELED: frozenset({S.FILLED, S.PARTIALLY_FILLED}),
    S.REPLACED: frozenset({S.FILLED, S.PARTIALLY_FILLED}),
}

WORKING = frozenset({S.SUBMITTED, S.ACCEPTED, S.PARTIALLY_FILLED, S.PENDING_CANCEL, S.UNKNOWN})
"""States in which the venue may still fill, so that cash stays reserved."""

_OVERTAKEN = {
    S.PARTIALLY_FILLED: frozenset({S.ACCEPTED}),
    S.PENDING_CANCEL: frozenset({S.ACCEPTED, S.PARTIALLY_FILLED}),
}


def newer(current: OrderState, reported: OrderState) -> OrderState:
    """Returns the reported state, or the current one where the report was overtaken on its way.

    A cancel that was asked for stays asked for until the venue ends the order one way or the other.
    """
    return current if reported in _OVERTAKEN.get(current, frozenset()) else reported


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
