"""Admission: what an order opens can be paid for and is reserved, and what it closes is there."""

from neural_trader_tools.brokers.exchange import amounts, rules
from neural_trader_tools.brokers.exchange.account import Account
from neural_trader_tools.brokers.exchange.orders import VenueOrder
from neural_trader_tools.brokers.exchange.registry import Registry, share_text
from neural_trader_tools.brokers.exchange.venue import VenueRules


def admit(
    registry: Registry, venue: VenueRules, order: VenueOrder, *, instead_of: VenueOrder | None = None
) -> int:
    """Returns the micros to hold back for an order; 0 where it closes a position.

    Args:
        registry: What there is.
        venue: How the exchange behaves.
        order: The new one; of a group the first, since legs close what their entry opens.
        instead_of: The order that it replaces.

    Raises:
        RefusedError: not enough buying power or shares, no short sales here, or a wash trade.
    """
    account = registry.accounts[order.account]
    if venue.refuses_wash_trades:
        others = registry.open_orders(order.account, order.symbol)
        rules.require_no_wash_trade(order, [each for each in others if each is not instead_of])
    held = account.held(order.symbol)
    if (held < 0) if order.is_buy else (held > 0):
        _require_shares(registry, order, instead_of)
        return 0
    if order.order_class == "oco":
        raise rules.invalid("oco orders must close a position")
    if not order.is_buy:
        _require_may_short(registry, account, order)
    needed = to_reserve(registry, venue, order)
    free = account.buying_power(registry.price_of) + (instead_of.reserved if instead_of else 0)
    if needed > free:
        raise rules.forbidden(
            f"insufficient buying power (cost basis: {amounts.money_text(needed)},"
            f" buying power: {amounts.money_text(free)})"
        )
    return needed


def to_reserve(registry: Registry, venue: VenueRules, order: VenueOrder) -> int:
    """Returns the micros that what is open of an order may cost."""
    if order.notional is not None and order.quantity == 0:
        return order.notional
    reference = registry.book(order.symbol).tape.reference(buying=order.is_buy)
    price = order.limit
    if price is None:
        price = max(reference, order.stop or 0) if order.is_buy else reference
        if price == 0:
            raise rules.forbidden(f"no price is known for {order.symbol}: nothing says what it would cost")
        price = -(-price * (10_000 + venue.reserve_margin_bp) // 10_000)
    return amounts.money(price, order.open_quantity, "up")


def _require_shares(registry: Registry, order: VenueOrder, instead_of: VenueOrder | None) -> None:
    there = abs(registry.available(order.account, order.symbol, without=instead_of))
    if order.notional is not None:
        price = registry.price_of(order.symbol)
        wanted = amounts.quantity_for(order.notional, price) if price else 0
    else:
        wanted = order.quantity
    if wanted > there:
        raise rules.forbidden(f"insufficient qty available for order {share_text(wanted, there)}")


def _require_may_short(registry: Registry, account: Account, order: VenueOrder) -> None:
    if not account.may_short or account.multiplier == 1:
        raise rules.forbidden(
            f"insufficient qty available for order {share_text(order.quantity, 0)};"
            " account is not allowed to short"
        )
    if not registry.assets[order.symbol].is_shortable:
        raise rules.invalid(f'asset "{order.symbol}" cannot be sold short')
    if order.notional is not None or order.quantity % amounts.SHARE:
        raise rules.invalid("fractional orders cannot be sold short")
