"""How one exchange behaves: delays, fees, refusals by chance, all drawn from its seed."""

import hashlib
import uuid
from dataclasses import dataclass, field

from neural_trader_tools.brokers.exchange.matching import FillRules


@dataclass(frozen=True, slots=True)
class Fees:
    """What a fill costs.

    Attributes:
        commission_millionths: Of the value.
        per_share_micros: For each share.
        minimum_micros: At least this for a fill.
    """

    commission_millionths: int = 0
    per_share_micros: int = 0
    minimum_micros: int = 0

    def of(self, value_micros: int, quantity: int) -> int:
        """Returns the fee of a fill in micros, rounded up."""
        if not (self.commission_millionths or self.per_share_micros or self.minimum_micros):
            return 0
        fee = -(-value_micros * self.commission_millionths // 10**6)
        fee += -(-quantity * self.per_share_micros // 10**9)
        return max(fee, self.minimum_micros)


@dataclass(frozen=True, slots=True)
class VenueRules:
    """Everything about the exchange that is a choice.

    Attributes:
        latency_ns: From a request to the book, for orders, cancels and replacements alike.
        jitter_ns: Up to so much more, by chance.
        reject_millionths: Chance that the venue rejects an order after it was taken.
        reserve_margin_bp: Held back beyond the reference price for an order without a limit.
        refuses_wash_trades: Orders that could meet one of the same account.
        settlement_sessions: Sessions until sale proceeds settle (1 is T+1, SEC Rule 15c6-1).
    """

    fills: FillRules = field(default_factory=FillRules)
    fees: Fees = field(default_factory=Fees)
    latency_ns: int = 0
    jitter_ns: int = 0
    reject_millionths: int = 0
    reserve_margin_bp: int = 200
    refuses_wash_trades: bool = True
    settlement_sessions: int = 1


@dataclass(frozen=True, slots=True)
class Chance:
    """Numbers that depend on the seed and on what they are for, not on how many were drawn before."""

    seed: int

    def below(self, bound: int, *purpose: object) -> int:
        """Returns a whole number from 0 to bound - 1."""
        return int.from_bytes(self._digest(*purpose)[:8]) % bound

    def uuid(self, *purpose: object) -> str:
        """Returns an id as clients expect them."""
        return str(uuid.UUID(bytes=self._digest(*purpose)[:16], version=4))

    def _digest(self, *purpose: object) -> bytes:
        return hashlib.sha256(":".join(str(each) for each in (self.seed, *purpose)).encode()).digest()
