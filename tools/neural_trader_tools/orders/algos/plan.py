"""Plans: how a parent order is cut into children, as a pure function of time and market volume.

A plan says at each moment how much of a leg should have been sent by then (`target`); who executes it sends
the difference. Nothing is drawn at random while it runs: the jitter of the times comes from the plan's seed,
and the weights of a VWAP plan are written into it at its start. So the same plan over the same market makes
the same children, in whatever process and after whatever crash.

- `now`: everything at the start, as a basket does.
- `twap`: equal parts at equal distances.
- `vwap`: parts in proportion to a profile of the day's volume.
- `pov`: a share of what the market has traded since the start.
"""

import random
from collections.abc import Sequence
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import accumulate
from typing import Literal, Self

from pydantic import Field, model_validator

from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.instruments import Symbol
from neural_trader_governance.terms.money import MONEY_MAX, NANO, QUANTITY_MAX, DecimalText, price_tick
from neural_trader_governance.terms.orders import Side
from neural_trader_governance.terms.term import Term

Algorithm = Literal["now", "twap", "vwap", "pov"]
SLICES_MAX = 500
LEGS_MAX = 100
PARTICIPATION_BPS_MAX = 5_000
CATCH_UP = 2
"""After a pause a child may be so many times the largest slice, not the whole of what was missed."""


class Leg(Term):
    """What one parent wants of one symbol."""

    symbol: Symbol
    side: Side
    quantity: DecimalText = Field(gt=0, le=QUANTITY_MAX)
    limit_price: DecimalText | None = Field(default=None, gt=0, le=MONEY_MAX)

    @model_validator(mode="after")
    def _is_orderable(self) -> Self:
        if self.limit_price is not None and self.limit_price % price_tick(self.limit_price) != 0:
            raise ValueError(f"limit_price {self.limit_price} is not a multiple of its tick")
        if self.quantity % NANO != 0:
            raise ValueError("quantity is finer than 1e-9")
        return self


class Plan(Term):
    """When how much is sent; times are the desk's clock.

    Attributes:
        weights: One of each slice, in proportion to which a `vwap` plan sends.
        jitter: The part of a slice's length by which its time may be later, drawn from `seed`.
        lot: Children are whole multiples of it, but for the last.
    """

    algorithm: Algorithm
    start: UtcTime
    end: UtcTime
    slices: int = Field(default=1, ge=1, le=SLICES_MAX)
    weights: tuple[int, ...] = ()
    participation_bps: int = Field(default=0, ge=0, le=PARTICIPATION_BPS_MAX)
    lot: DecimalText = Field(default=Decimal(1), gt=0)
    seed: int = 0
    jitter: DecimalText = Field(default=Decimal(0), ge=0, le=Decimal("0.9"))

    @model_validator(mode="after")
    def _fits_its_algorithm(self) -> Self:
        if self.end < self.start or (self.end == self.start and self.algorithm != "now"):
            raise ValueError("end must be later than start")
        wants_weights = self.algorithm == "vwap"
        if wants_weights != bool(self.weights):
            raise ValueError(f"a {self.algorithm} plan {'needs' if wants_weights else 'takes no'} weights")
        if self.weights and (
            len(self.weights) != self.slices or min(self.weights) < 0 or not any(self.weights)
        ):
            raise ValueError("weights are one of each slice, none below zero and not all zero")
        if (self.algorithm == "pov") != (self.participation_bps > 0):
            raise ValueError("a pov plan, and only that, needs participation_bps from 1 to 5000")
        return self

    def due_times(self) -> list[datetime]:
        """Returns when each slice is due, ascending; the first may be delayed by jitter like the others."""
        if self.algorithm in {"now", "pov"}:
            return [self.start]
        length = (self.end - self.start) / self.slices
        chance = random.Random(self.seed)  # noqa: S311 - to spread times, not to keep a secret
        late = [chance.random() * float(self.jitter) for _ in range(self.slices)]
        return [self.start + length * (number + late[number]) for number in range(self.slices)]

    def target(self, quantity: Decimal, now: datetime, volume: Decimal) -> Decimal:
        """Returns how much of a leg should have been sent by a moment; after the end, what was due at it.

        Args:
            quantity: The leg's.
            now: By the desk's clock.
            volume: What the market has traded since the start; only a `pov` plan looks at it.
        """
        if now < self.start:
            return Decimal(0)
        if self.algorithm == "now":
            return quantity
        if self.algorithm == "pov":
            return min(quantity, self._whole(volume * self.participation_bps / 10_000))
        due = sum(moment <= now for moment in self.due_times())
        reached = self._cumulative()
        if due == self.slices:
            return quantity
        return self._whole(quantity * reached[due - 1] / reached[-1]) if due else Decimal(0)

    def child_max(self, quantity: Decimal) -> Decimal:
        """Returns the largest child of a leg: what was missed is made up for in several."""
        if self.algorithm in {"now", "pov"}:
            return quantity
        parts = self.weights or (1,) * self.slices
        largest = quantity * max(parts) / sum(parts)
        lots = (largest / self.lot).to_integral_value(ROUND_CEILING)
        return min(quantity, CATCH_UP * max(lots, Decimal(1)) * self.lot)

    def child(self, leg: Leg, sent: Decimal, now: datetime, volume: Decimal) -> Decimal:
        """Returns the quantity of the child that is due, 0 where none is.

        Args:
            leg: Of the parent.
            sent: What earlier children filled, or may still fill.
            now: By the desk's clock; after the plan's end nothing is sent.
            volume: As `target`.
        """
        if now > self.end and self.algorithm != "now":
            return Decimal(0)
        due = min(self.target(leg.quantity, now, volume) - sent, self.child_max(leg.quantity))
        if due <= 0:
            return Decimal(0)
        return due if sent + due == leg.quantity else self._whole(due)

    def _cumulative(self) -> list[int]:
        return list(accumulate(self.weights or (1,) * self.slices))

    def _whole(self, quantity: Decimal) -> Decimal:
        return (quantity / self.lot).to_integral_value(ROUND_FLOOR) * self.lot


def profile_weights(
    volumes: Sequence[tuple[int, Decimal]], slices: Sequence[tuple[int, int]]
) -> tuple[int, ...]:
    """Returns the weight of each slice of a day: the volume that bars of its time of day had.

    Args:
        volumes: Second of the day at which a bar opened, and its volume, of as many days as there are.
        slices: First second and end of each slice, exclusive.
    """
    return tuple(
        int(sum((volume for second, volume in volumes if first <= second < end), Decimal(0)))
        for first, end in slices
    )
