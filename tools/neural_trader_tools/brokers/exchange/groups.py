"""Groups: brackets, one-cancels-other and one-triggers-other, and how their members follow each other.

| class | members | follow |
|---|---|---|
| bracket | entry; take_profit and stop_loss, held | legs awake when the entry is filled, then as oco |
| oto | entry; one leg, held | the leg awakes when the entry is filled |
| oco | take_profit, stop_loss | what one fills the other may not; the first to be filled ends the other |

An entry that ends filled in part wakes its legs for that part: what was bought is never left without them.
"""

from collections.abc import Sequence
from typing import Literal

from neural_trader_governance.terms.money import to_micros, to_nanos
from neural_trader_tools.brokers.exchange import amounts, rules
from neural_trader_tools.brokers.exchange.orders import Role, VenueOrder
from neural_trader_tools.brokers.exchange.requests import OrderRequest, ReplaceRequest, StopLoss, TakeProfit
from neural_trader_tools.brokers.exchange.venue import Chance

Following = Literal["awake", "end"]


def planned(
    request: OrderRequest, account: str, chance: Chance, counted: int, now_ns: int
) -> list[VenueOrder]:
    """Returns the orders that a request means, the one to answer with first.

    Args:
        request: What was asked for.
        account: Whose.
        chance: Where ids come from.
        counted: Orders so far.
        now_ns: The exchange's time.
    """
    given = request.client_order_id

    def made(number: int, role: Role | None) -> VenueOrder:
        sequence = counted + 1 + number
        return VenueOrder(
            id=chance.uuid("order", sequence),
            client_order_id=given if number == 0 and given else chance.uuid("client", sequence),
            account=account,
            sequence=sequence,
            symbol=request.symbol,
            side=request.side,
            type=request.type,
            time_in_force=request.time_in_force,
            order_class=request.order_class,
            quantity=0 if request.qty is None else to_nanos(request.qty),
            created_ns=now_ns,
            updated_ns=now_ns,
            arrives_ns=now_ns,
            extended_hours=request.extended_hours,
            role=role,
        )

    gain, loss = request.take_profit, request.stop_loss
    if request.order_class == "oco":
        orders = [_as_gain(made(0, "take_profit"), gain)] if gain else []
        orders += [_as_loss(made(1, "stop_loss"), loss)] if loss else []
    else:
        entry = made(0, None if request.order_class == "simple" else "entry")
        _set_terms(entry, request)
        legs = [_as_gain(made(1, "take_profit"), gain)] if gain else []
        legs += [_as_loss(made(1 + len(legs), "stop_loss"), loss)] if loss else []
        for leg in legs:
            leg.side = "sell" if entry.is_buy else "buy"
            leg.status = "held"
        orders = [entry, *legs]
    if len(orders) > 1:
        group = chance.uuid("group", counted + 1)
        for order in orders:
            order.group = group
            order.parent = None if order is orders[0] else orders[0].id
    return orders


def replacement(
    old: VenueOrder, request: ReplaceRequest, chance: Chance, counted: int, now_ns: int
) -> VenueOrder:
    """Returns the order that takes the place of another.

    Raises:
        RefusedError: terms that the old order's type or class does not have.
    """
    sequence = counted + 1
    quantity = old.open_quantity
    if request.qty is not None:
        if old.quantity % amounts.SHARE or request.qty != request.qty.to_integral_value():
            raise rules.invalid("only whole shares can be replaced")
        quantity = to_nanos(request.qty) - old.filled
        if quantity <= 0:
            raise rules.invalid(f"qty must be above what is filled ({amounts.quantity_text(old.filled)})")
        if old.role not in {None, "entry"} and quantity != old.open_quantity:
            raise rules.invalid("a leg's qty is its entry's: it cannot be replaced")
    if old.notional is not None:
        raise rules.invalid("notional orders cannot be replaced")
    new = VenueOrder(
        id=chance.uuid("order", sequence),
        client_order_id=request.client_order_id or chance.uuid("client", sequence),
        account=old.account,
        sequence=sequence,
        symbol=old.symbol,
        side=old.side,
        type=old.type,
        time_in_force=request.time_in_force or old.time_in_force,
        order_class=old.order_class,
        quantity=quantity,
        created_ns=now_ns,
        updated_ns=now_ns,
        arrives_ns=now_ns,
        limit=old.limit,
        stop=old.stop,
        trail=old.trail,
        trail_bp=old.trail_bp,
        high_water=old.high_water,
        extended_hours=old.extended_hours,
        triggered=old.triggered,
        expires_on=old.expires_on,
        group=old.group,
        role=old.role,
        parent=old.parent,
        replaces=old.id,
        counts_filled=old.filled,
    )
    if new.time_in_force != old.time_in_force:
        if {new.time_in_force, old.time_in_force} != {"day", "gtc"}:
            raise rules.invalid(
                f"time_in_force cannot change from {old.time_in_force} to {new.time_in_force}"
            )
        new.expires_on = None
    for name, price in (("limit_price", request.limit_price), ("stop_price", request.stop_price)):
        field = name.removesuffix("_price")
        if price is None:
            continue
        if getattr(old, field) is None or (field == "stop" and old.type == "trailing_stop"):
            raise rules.invalid(f"a {old.type} order has no {name}")
        setattr(new, field, amounts.to_price(price))
    if request.trail is not None:
        if old.type != "trailing_stop":
            raise rules.invalid(f"a {old.type} order has no trail")
        if old.trail is not None:
            new.trail = amounts.to_price(request.trail)
        else:
            new.trail_bp = int(request.trail * 100)
        if new.high_water is not None:
            new.stop = new.trail_stop(new.high_water)
    return new


def filled_since(old: VenueOrder, new: VenueOrder) -> int:
    """Returns what was filled of an order since its replacement was asked for, which counts against that."""
    return old.filled - new.counts_filled


def canceled_together(order: VenueOrder, members: Sequence[VenueOrder]) -> list[VenueOrder]:
    """Returns what a request to cancel cancels: with a leg its siblings, and an entry that is not filled."""
    if order.role in {None, "entry"}:
        return [order]
    return [member for member in members if member.is_open]


def after_fill(order: VenueOrder, members: Sequence[VenueOrder]) -> list[tuple[VenueOrder, Following]]:
    """Returns who follows a fill, and how; siblings are shrunk to what is left."""
    if order.role == "entry":
        return _awoken(members) if order.open_quantity == 0 else []
    siblings = [member for member in members if member is not order and member.is_open]
    for sibling in siblings:
        sibling.quantity = sibling.filled + order.open_quantity
    return [(sibling, "end") for sibling in siblings if order.open_quantity == 0]


def after_end(order: VenueOrder, members: Sequence[VenueOrder]) -> list[tuple[VenueOrder, Following]]:
    """Returns who follows an order that ended without being filled whole, and how."""
    if order.role != "entry":
        return []
    return _awoken(members)


def _awoken(members: Sequence[VenueOrder]) -> list[tuple[VenueOrder, Following]]:
    filled = sum(member.filled for member in members if member.role == "entry")
    legs = [member for member in members if member.status == "held"]
    for leg in legs:
        leg.quantity = filled
    return [(leg, "awake" if filled else "end") for leg in legs]


def _set_terms(order: VenueOrder, request: OrderRequest) -> None:
    order.notional = None if request.notional is None else to_micros(request.notional)
    order.limit = None if request.limit_price is None else amounts.to_price(request.limit_price)
    order.stop = None if request.stop_price is None else amounts.to_price(request.stop_price)
    order.trail = None if request.trail_price is None else amounts.to_price(request.trail_price)
    order.trail_bp = None if request.trail_percent is None else int(request.trail_percent * 100)


def _as_gain(order: VenueOrder, leg: TakeProfit) -> VenueOrder:
    order.type = "limit"
    order.limit = amounts.to_price(leg.limit_price)
    order.stop = None
    return order


def _as_loss(order: VenueOrder, leg: StopLoss) -> VenueOrder:
    order.type = "stop" if leg.limit_price is None else "stop_limit"
    order.stop = amounts.to_price(leg.stop_price)
    order.limit = None if leg.limit_price is None else amounts.to_price(leg.limit_price)
    return order
