"""Documents: what the API says of orders, accounts, positions and activities, by Alpaca's OpenAPI."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from neural_trader_tools.brokers.exchange import amounts
from neural_trader_tools.brokers.exchange.account import Account, Position
from neural_trader_tools.brokers.exchange.exchange import Exchange
from neural_trader_tools.brokers.exchange.hours import Session
from neural_trader_tools.brokers.exchange.orders import VenueOrder
from neural_trader_tools.brokers.exchange.rules import Asset
from neural_trader_tools.brokers.exchange.updates import Activity, Execution, Update

Document = dict[str, Any]
_NEW_YORK = ZoneInfo("America/New_York")


def moment(time_ns: int | None) -> str | None:
    """Returns RFC 3339 with nanoseconds, as Alpaca writes instants; None stays None."""
    if time_ns is None:
        return None
    seconds, rest = divmod(time_ns, 10**9)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{rest:09d}Z" if rest else f"{whole}Z"


def order_document(
    exchange: Exchange, order: VenueOrder, *, legs: Sequence[VenueOrder] | None = None
) -> Document:
    """Returns an order.

    Args:
        exchange: For ids of assets.
        order: As it stands.
        legs: To nest; None for `null`.
    """
    average = order.average_price
    document: Document = {
        "id": order.id,
        "client_order_id": order.client_order_id,
        "created_at": moment(order.created_ns),
        "updated_at": moment(order.updated_ns),
        "submitted_at": moment(order.created_ns),
        "filled_at": moment(order.filled_ns),
        "expired_at": moment(order.expired_ns),
        "canceled_at": moment(order.canceled_ns),
        "failed_at": moment(order.failed_ns),
        "replaced_at": moment(order.replaced_ns),
        "replaced_by": order.replaced_by,
        "replaces": order.replaces,
        "asset_id": asset_id(exchange, order.symbol),
        "symbol": order.symbol,
        "asset_class": "us_equity",
        "notional": None if order.notional is None else amounts.money_text(order.notional),
        "qty": None if order.notional is not None else amounts.quantity_text(order.quantity),
        "filled_qty": amounts.quantity_text(order.filled),
        "filled_avg_price": None if average is None else format(average.normalize(), "f"),
        "order_class": "" if order.order_class == "simple" else order.order_class,
        "order_type": order.type,
        "type": order.type,
        "side": order.side,
        "time_in_force": order.time_in_force,
        "limit_price": amounts.price_text(order.limit),
        "stop_price": amounts.price_text(order.stop),
        "status": order.status,
        "extended_hours": order.extended_hours,
        "legs": None if legs is None else [order_document(exchange, leg) for leg in legs],
        "trail_percent": None if order.trail_bp is None else f"{order.trail_bp / 100:g}",
        "trail_price": amounts.price_text(order.trail),
        "hwm": amounts.price_text(order.high_water),
    }
    if order.expires_on is not None:
        document["expires_at"] = moment(exchange.hours.of_day(order.expires_on).close_ns)
    if order.group is not None:
        document |= {"group_id": order.group, "group_role": order.role}
    return document


def update_document(exchange: Exchange, update: Update) -> Document:
    """Returns one message of the stream `trade_updates`."""
    data: Document = {
        "event": update.event,
        "event_id": f"{update.sequence:020d}",
        "timestamp": moment(update.time_ns),
        "order": order_document(exchange, update.order),
    }
    execution = update.execution
    if execution is not None:
        data |= {
            "execution_id": execution.id,
            "price": amounts.price_text(execution.price),
            "qty": amounts.quantity_text(execution.quantity),
            "position_qty": amounts.quantity_text(execution.position),
        }
    return {"stream": "trade_updates", "data": data}


def account_document(exchange: Exchange, account: Account, opened_ns: int) -> Document:
    """Returns the account with its money."""
    price_of = exchange.registry.price_of
    equity = account.equity(price_of)
    money = amounts.money_text
    closed = exchange.hours.last_closed(exchange.now_ns)
    power = account.buying_power(price_of)
    return {
        "id": exchange.registry.chance.uuid("account", account.name),
        "account_number": account.name.upper(),
        "status": "ACTIVE",
        "currency": "USD",
        "cash": money(account.cash),
        "portfolio_value": money(equity),
        "equity": money(equity),
        "last_equity": money(account.last_equity or account.start_cash),
        "long_market_value": money(account.long_value(price_of)),
        "short_market_value": money(account.short_value(price_of)),
        "initial_margin": money(account.initial_margin(price_of)),
        "maintenance_margin": money(account.maintenance_margin(price_of)),
        "last_maintenance_margin": "0",
        "multiplier": str(account.multiplier),
        "buying_power": money(power),
        "regt_buying_power": money(power),
        "non_marginable_buying_power": money(max(account.cash - account.reserved, 0)),
        "options_buying_power": "0",
        "options_approved_level": 0,
        "options_trading_level": 0,
        "accrued_fees": money(account.fees),
        "pending_reg_taf_fees": "0",
        "intraday_adjustments": "0",
        "sma": "0",
        "shorting_enabled": account.may_short,
        "account_blocked": False,
        "trading_blocked": account.is_blocked,
        "transfers_blocked": True,
        "trade_suspended_by_user": False,
        "created_at": moment(opened_ns),
        "balance_asof": (closed.date if closed else _day(opened_ns)).isoformat(),
    }


def position_document(exchange: Exchange, account: Account, symbol: str, position: Position) -> Document:
    """Returns a position at the last price."""
    price = exchange.registry.price_of(symbol)
    value, cost = position.value(price), position.cost
    gain = value - cost
    ratio = format(gain / abs(cost), ".6f") if cost else "0"
    free = exchange.registry.available(account.name, symbol)
    shares = abs(position.quantity)
    return {
        "asset_id": asset_id(exchange, symbol),
        "symbol": symbol,
        "exchange": "NYSE",
        "asset_class": "us_equity",
        "asset_marginable": account.multiplier > 1,
        "qty": amounts.quantity_text(position.quantity),
        "qty_available": amounts.quantity_text(free),
        "side": "long" if position.quantity > 0 else "short",
        "avg_entry_price": format(amounts.average_price(abs(cost) * 10**7, shares).normalize(), "f"),
        "market_value": amounts.money_text(value),
        "cost_basis": amounts.money_text(cost),
        "unrealized_pl": amounts.money_text(gain),
        "unrealized_plpc": ratio,
        "unrealized_intraday_pl": amounts.money_text(gain),
        "unrealized_intraday_plpc": ratio,
        "current_price": amounts.price_text(price),
        "lastday_price": amounts.price_text(price),
        "change_today": "0",
    }


def asset_document(exchange: Exchange, asset: Asset) -> Document:
    """Returns what can be traded."""
    return {
        "id": asset_id(exchange, asset.symbol),
        "class": asset.asset_class,
        "exchange": "NYSE",
        "symbol": asset.symbol,
        "name": asset.name or asset.symbol,
        "status": "active",
        "tradable": asset.is_tradable,
        "marginable": True,
        "shortable": asset.is_shortable,
        "easy_to_borrow": asset.is_shortable,
        "borrow_status": "easy_to_borrow" if asset.is_shortable else "hard_to_borrow",
        "fractionable": asset.is_fractionable,
    }


def clock_document(exchange: Exchange) -> Document:
    """Returns the exchange's time and its next open and close."""
    now = exchange.now_ns
    return {
        "timestamp": moment(now),
        "is_open": exchange.hours.at(now) is not None,
        "next_open": moment(exchange.hours.next_open(now).open_ns),
        "next_close": moment(exchange.hours.current_or_next(now).close_ns),
    }


def session_document(session: Session, settles: date) -> Document:
    """Returns one day of the calendar, in New York's time."""
    opens, closes = (_local(time_ns) for time_ns in (session.open_ns, session.close_ns))
    return {
        "date": session.date.isoformat(),
        "open": opens.strftime("%H:%M"),
        "close": closes.strftime("%H:%M"),
        "session_open": opens.strftime("%H%M"),
        "session_close": closes.strftime("%H%M"),
        "settlement_date": settles.isoformat(),
    }


def fill_document(exchange: Exchange, execution: Execution) -> Document:
    """Returns a fill as an activity."""
    return {
        "activity_type": "FILL",
        "id": f"{_stamp(execution.time_ns)}::{execution.id}",
        "account_id": exchange.registry.chance.uuid("account", execution.account),
        "transaction_time": moment(execution.time_ns),
        "type": "partial_fill" if execution.left else "fill",
        "price": amounts.price_text(execution.price),
        "qty": amounts.quantity_text(execution.quantity),
        "side": execution.side,
        "symbol": execution.symbol,
        "leaves_qty": amounts.quantity_text(execution.left),
        "cum_qty": amounts.quantity_text(execution.filled),
        "order_id": execution.order_id,
        "order_status": "partially_filled" if execution.left else "filled",
    }


def activity_document(exchange: Exchange, activity: Activity) -> Document:
    """Returns a dividend or a split as an activity."""
    return {
        "activity_type": activity.kind,
        "id": f"{_stamp(activity.time_ns)}::{activity.id}",
        "account_id": exchange.registry.chance.uuid("account", activity.account),
        "date": _day(activity.time_ns).isoformat(),
        "net_amount": amounts.money_text(activity.amount),
        "description": f"{activity.kind} of {activity.symbol}, {activity.per_share} a share",
        "symbol": activity.symbol,
        "qty": amounts.quantity_text(activity.quantity),
        "per_share_amount": activity.per_share if activity.kind == "DIV" else None,
        "status": "executed",
    }


def asset_id(exchange: Exchange, symbol: str) -> str:
    """Returns the id of a symbol at this exchange."""
    return exchange.registry.chance.uuid("asset", symbol)


def _local(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).astimezone(_NEW_YORK)


def _day(time_ns: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns // 1000)).date()


def _stamp(time_ns: int) -> str:
    return (
        datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y%m%d%H%M%S")
        + f"{time_ns % 10**9 // 10**6:03d}"
    )
