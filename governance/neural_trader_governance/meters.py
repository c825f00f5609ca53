"""The meter: admits a call if its budgets have room, and charges it when it ends.

A call is admitted while less than the budget is used or reserved, and reserves the most that it can
cost. So however many run at once, a budget is exceeded by less than the most that one call can cost.
"""

from dataclasses import dataclass
from datetime import datetime

from neural_trader_governance.budgets import Budget, bound_of, bounds_of, period_days, read_budgets
from neural_trader_governance.errors import NeuralTraderError
from neural_trader_governance.known import Known
from neural_trader_governance.signing.keys import VerifyingKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import Clock, to_utc
from neural_trader_governance.usage import Attribution, Bound, Costs, Prices, UsageLedger


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that was let through: whom it is charged to, on which day, and what it set aside."""

    who: Attribution
    day: str
    reservation: int | None


@dataclass(frozen=True, slots=True)
class UsageStanding:
    """What an agent used in the period of its budget; of the day, where it has none.

    Attributes:
        period: `2026-11-22`, or `2026-11` where only a monthly budget stands.
        calls: Tool calls that have ended.
        sandbox_ms: Milliseconds in the sandbox.
        data_calls: Calls that read prices.
        cost_micros: What they came to with what is reserved, in millionths of a USD.
        limit_micros: The budget; None without one.
    """

    period: str
    calls: int
    sandbox_ms: int
    data_calls: int
    cost_micros: int
    limit_micros: int | None


class Meter:
    """Counts what callers use on one home, and holds them to their budgets."""

    def __init__(
        self, ledger: UsageLedger, store: Store, issuer: VerifyingKey, prices: Prices, clock: Clock
    ) -> None:
        self.ledger = ledger
        self.prices = prices
        self._store = store
        self._issuer = issuer
        self._clock = clock
        self._budgets = Known[str, list[Budget]](
            store, lambda connection, agent: read_budgets(connection, issuer=issuer, agent=agent)
        )

    def admit(self, who: Attribution, most: Costs, *, refusable: bool, wait: bool = True) -> Admission:
        """Reserves the most that a call can cost.

        Args:
            who: The caller; a person (no agent) has no budget.
            most: The most that the call can use, of the units that have a price.
            refusable: False for what must always work, such as a halt: it is counted and never refused.
            wait: False where the event loop asks: another process's transaction is not waited for.

        Raises:
            RiskError: `budget_exhausted`, or `budget_invalid` where a budget does not verify.
            StorageError: usage cannot be recorded.
            BlockingIOError: it would have to be waited for; nothing was reserved.
        """
        now = self._clock.now()
        bounds: list[Bound] = []
        if refusable and who.agent:
            bounds = bounds_of(self._budgets.of(who.agent), strategy=who.strategy, now=now)
        day = _day(now)
        micros = self.prices.micros(most)
        if micros == 0 and not bounds:  # it can neither be refused nor take from what others may use
            if refusable:
                self.ledger.require_counting()
            return Admission(who, day, None)
        return Admission(who, day, self.ledger.reserve(who, day, micros, bounds, wait=wait))

    def charge(self, admission: Admission, costs: Costs, *, wait: bool = True) -> None:
        """Charges what a call used in place of what it had reserved; `wait` as in `admit`.

        Raises:
            StorageError: usage cannot be recorded; the reservation stays charged.
            BlockingIOError: it would have to be waited for; nothing was charged.
        """
        who, micros = admission.who, self.prices.micros(costs)
        if admission.reservation is None:
            self.ledger.count(who, admission.day, costs)
            return
        self.ledger.settle(admission.reservation, who, admission.day, costs, micros, wait=wait)

    def standing(self, agent: str) -> UsageStanding:
        """Returns what an agent used in the period of its own budget, strategies' budgets aside.

        Raises:
            StorageError: usage cannot be read.
        """
        now = self._clock.now()
        budget = self._budget(agent)
        first, last = period_days(budget.period if budget else "day", now)
        bound = bound_of(budget, now) if budget else Bound("", None, first, last, 0)
        rows = self.ledger.rows(agent=agent, since=first, until=last)
        return UsageStanding(
            period=first if first == last else first[:7],
            calls=sum(row.calls for row in rows),
            sandbox_ms=sum(row.sandbox_ms for row in rows),
            data_calls=sum(row.data_calls for row in rows),
            cost_micros=self.ledger.used_micros(agent, bound),
            limit_micros=budget.limit_micros if budget else None,
        )

    def _budget(self, agent: str) -> Budget | None:
        """Returns the agent's own budget, the day's before the month's."""
        try:
            with self._store.read() as connection:
                standing = read_budgets(connection, issuer=self._issuer, agent=agent)
        except NeuralTraderError:  # a report must not fail because a row is damaged; `admit` does
            return None
        own = [budget for budget in standing if budget.strategy is None and budget.limit_micros is not None]
        return min(own, key=lambda budget: budget.period) if own else None


def _day(now: datetime) -> str:
    return to_utc(now).date().isoformat()
