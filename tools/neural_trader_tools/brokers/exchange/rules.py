"""What the exchange refuses: before an order is taken, against the account, the market and the hour.

Codes and words are Alpaca's, because its clients tell them apart by these.
"""

from dataclasses import dataclass

from neural_trader_tools.brokers.exchange.hours import Hours
from neural_trader_tools.brokers.exchange.orders import VenueOrder
from neural_trader_tools.brokers.exchange.requests import OrderRequest

OPENING_CUTOFF_NS = 2 * 60 * 10**9
CLOSING_CUTOFF_NS = 10 * 60 * 10**9


class RefusedError(Exception):
    """The exchange does not do what was asked; nothing changed.

    Attributes:
        status: HTTP's.
        code: Alpaca's number.
        message: What is wrong.
    """

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def invalid(message: str) -> RefusedError:
    """The request makes no sense, whoever asks."""
    return RefusedError(422, 42210000, message)


def forbidden(message: str) -> RefusedError:
    """The request is sound, but not for this account now."""
    return RefusedError(403, 40310000, message)


def not_found(message: str) -> RefusedError:
    """There is no such thing."""
    return RefusedError(404, 40410000, message)


@dataclass(frozen=True, slots=True)
class Asset:
    """What can be traded."""

    symbol: str
    name: str = ""
    is_tradable: bool = True
    is_shortable: bool = True
    is_fractionable: bool = True
    asset_class: str = "us_equity"


def require_tradable(asset: Asset | None, request: OrderRequest) -> None:
    """Raises RefusedError where an asset is unknown, cannot be traded, or not in fractions."""
    if asset is None:
        raise invalid(f'asset "{request.symbol}" not found')
    if not asset.is_tradable:
        raise invalid(f'asset "{asset.symbol}" is not tradable')
    fraction = request.notional is not None or (
        request.qty is not None and request.qty != request.qty.to_integral_value()
    )
    if fraction and not asset.is_fractionable:
        raise forbidden(f'asset "{asset.symbol}" is not fractionable')


def require_auction_ahead(order: VenueOrder, hours: Hours, now_ns: int) -> None:
    """Raises RefusedError where an auction's time for entries is over.

    From two minutes before the open until the close no order for the open is taken, from ten minutes before
    the close until it none for the close. Alpaca keeps both shut until 19:00 in New York.
    """
    session = hours.current_or_next(now_ns)
    if order.time_in_force == "opg" and now_ns >= session.open_ns - OPENING_CUTOFF_NS:
        raise forbidden("opg orders are not accepted from two minutes before the open until the close")
    if order.time_in_force == "cls" and now_ns >= session.close_ns - CLOSING_CUTOFF_NS:
        raise forbidden("cls orders are not accepted in the ten minutes before the close")


def require_no_wash_trade(order: VenueOrder, working: list[VenueOrder]) -> None:
    """Raises RefusedError where the order could trade with one of the same account (FINRA Rule 5210).

    Args:
        order: The new one.
        working: Open orders of the account in the symbol; members of its own group do not count.
    """
    for other in working:
        if other.side == order.side or (order.group is not None and other.group == order.group):
            continue
        if other.group is not None and other.status == "held":
            continue
        if _could_cross(order, other):
            raise forbidden(f"potential wash trade detected. use complex orders (opposite side: {other.id})")


def _could_cross(one: VenueOrder, other: VenueOrder) -> bool:
    if one.waits_for_trigger or other.waits_for_trigger:
        return False  # a stop is no order in the market until that comes to it
    buy, sell = (one, other) if one.is_buy else (other, one)
    return buy.limit is None or sell.limit is None or buy.limit >= sell.limit
