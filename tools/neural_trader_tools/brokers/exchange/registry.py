"""The registry: every order, book and account of the exchange, and what changed since somebody asked."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from neural_trader_tools.brokers.exchange import amounts, rules
from neural_trader_tools.brokers.exchange.account import Account
from neural_trader_tools.brokers.exchange.book import Book
from neural_trader_tools.brokers.exchange.matching import FillRules
from neural_trader_tools.brokers.exchange.orders import OPEN, Status, VenueOrder
from neural_trader_tools.brokers.exchange.rules import Asset
from neural_trader_tools.brokers.exchange.updates import Activity, Event, Execution, Update
from neural_trader_tools.brokers.exchange.venue import Chance

Counted = Literal["orders", "updates", "executions", "activities"]


@dataclass(slots=True)
class Changes:
    """What changed: orders and accounts to keep (in the order of their change), what to tell, activities."""

    orders: dict[str, None] = field(default_factory=dict[str, None])
    accounts: dict[str, None] = field(default_factory=dict[str, None])
    updates: list[Update] = field(default_factory=list[Update])
    activities: list[Activity] = field(default_factory=list[Activity])


class Registry:
    """Holds and finds; decides nothing.

    Attributes:
        now_ns: The exchange's time.
        assets: By symbol.
        accounts: By name.
        orders: By id, finished ones too.
        books: By symbol, of what was ordered or seen.
        counts: How many of each kind there were: ids and sequences go on from there.
    """

    def __init__(
        self,
        assets: Iterable[Asset],
        accounts: Iterable[Account],
        fills: FillRules,
        chance: Chance,
        now_ns: int,
    ) -> None:
        self.now_ns = now_ns
        self.assets = {asset.symbol: asset for asset in assets}
        self.accounts = {account.name: account for account in accounts}
        self.orders: dict[str, VenueOrder] = {}
        self.books: dict[str, Book] = {}
        self.counts: dict[Counted, int] = dict.fromkeys(("orders", "updates", "executions", "activities"), 0)
        self.chance = chance
        self._fills = fills
        self._by_client: dict[tuple[str, str], str] = {}
        self._groups: dict[str, list[str]] = {}
        self._changes = Changes()

    def book(self, symbol: str) -> Book:
        """Returns a symbol's book."""
        book = self.books.get(symbol)
        if book is None:
            book = self.books[symbol] = Book(symbol, self._fills)
        return book

    def price_of(self, symbol: str) -> int:
        """Returns a symbol's last price in price units, 0 where none is known."""
        book = self.books.get(symbol)
        return book.tape.last if book else 0

    def order(self, account: str, order_id: str) -> VenueOrder:
        """Returns an order of the account.

        Raises:
            RefusedError: 404.
        """
        order = self.orders.get(order_id)
        if order is None or order.account != account:
            raise rules.not_found(f"order not found for {order_id}")
        return order

    def order_by_client_id(self, account: str, client_order_id: str) -> VenueOrder:
        """Returns an order by the id that its client gave it.

        Raises:
            RefusedError: 404.
        """
        found = self._by_client.get((account, client_order_id))
        if found is None:
            raise rules.not_found(f"order not found for {client_order_id}")
        return self.orders[found]

    def require_new_client_id(self, account: str, client_order_id: str | None) -> None:
        """Raises RefusedError where the account used that id before, for whatever order."""
        if client_order_id is not None and (account, client_order_id) in self._by_client:
            raise rules.RefusedError(422, 40010001, "client_order_id must be unique")

    def group(self, order: VenueOrder) -> list[VenueOrder]:
        """Returns the members of an order's group; only itself where it has none."""
        if order.group is None:
            return [order]
        return [self.orders[each] for each in self._groups[order.group]]

    def open_orders(self, account: str, symbol: str | None = None) -> list[VenueOrder]:
        """Returns the account's open orders, oldest first."""
        books = list(self.books.values()) if symbol is None else [self.book(symbol)]
        found = [order for book in books for order in book.orders.values() if order.account == account]
        return sorted(found, key=lambda order: order.sequence)

    def available(self, account: str, symbol: str, *, without: VenueOrder | None = None) -> int:
        """Returns the signed nano-units held that no open order (but `without`) is closing already."""
        held = self.accounts[account].held(symbol)
        closing = "sell" if held > 0 else "buy"
        bound: dict[str, int] = {}
        for order in self.open_orders(account, symbol):
            if order is without or order.side != closing:
                continue
            key = order.group or order.id  # members of a group share what they close
            closes = order.open_quantity
            if (
                order.status == "held"
            ):  # it will close what its entry has bought so far, and what that buys yet
                closes = sum(each.filled for each in self.group(order) if each.role == "entry")
            bound[key] = max(bound.get(key, 0), closes)
        return max(abs(held) - sum(bound.values()), 0) * (1 if held > 0 else -1)

    # Changing

    def enter(self, order: VenueOrder) -> None:
        """Takes a new order in."""
        self.counts["orders"] = max(self.counts["orders"], order.sequence)
        self.restore(order)
        self._changes.orders[order.id] = None

    def restore(self, order: VenueOrder) -> None:
        """Puts an order where it belongs, without counting it as a change."""
        self.orders[order.id] = order
        self._by_client[order.account, order.client_order_id] = order.id
        if order.group is not None:
            self._groups.setdefault(order.group, []).append(order.id)
        if order.status in OPEN:
            self.book(order.symbol).orders[order.id] = order

    def set_status(self, order: VenueOrder, status: Status) -> None:
        """Moves an order to a status; one that ended leaves its book."""
        order.status = status
        self.touch(order)
        if status not in OPEN:
            self.book(order.symbol).orders.pop(order.id, None)

    def touch(self, order: VenueOrder) -> None:
        """Notes that an order changed."""
        order.updated_ns = self.now_ns
        self._changes.orders[order.id] = None

    def touch_account(self, account: str) -> None:
        """Notes that an account changed."""
        self._changes.accounts[account] = None

    def reserve(self, order: VenueOrder, micros: int) -> None:
        """Holds back so much for an order from now on."""
        account = self.accounts[order.account]
        account.reserved += micros - order.reserved
        order.reserved = micros
        self.touch_account(order.account)

    def tell(self, event: Event, order: VenueOrder, execution: Execution | None = None) -> None:
        """Notes an update, with the order as it stands."""
        self.counts["updates"] += 1
        update = Update(self.counts["updates"], event, self.now_ns, replace(order), execution)
        self._changes.updates.append(update)

    def note_activity(
        self,
        account: Account,
        kind: Literal["DIV", "SPLIT"],
        symbol: str,
        *,
        amount: int,
        quantity: int,
        per_share: str,
    ) -> None:
        """Notes money (micros) or shares (nano-units) that moved without an order."""
        self.counts["activities"] += 1
        self._changes.activities.append(
            Activity(
                id=self.chance.uuid("activity", self.counts["activities"]),
                account=account.name,
                kind=kind,
                symbol=symbol,
                time_ns=self.now_ns,
                amount=amount,
                quantity=quantity,
                per_share=per_share,
            )
        )
        self.touch_account(account.name)

    def drain(self) -> Changes:
        """Returns what changed since the last call, and forgets it."""
        changes, self._changes = self._changes, Changes()
        return changes


def share_text(quantity: int, available: int) -> str:
    """Says how much was asked for and how much there is, as Alpaca does."""
    return (
        f"(requested: {amounts.quantity_text(quantity)},"
        f" available: {amounts.quantity_text(max(available, 0))})"
    )
