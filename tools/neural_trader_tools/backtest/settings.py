"""Settings: everything that a backtest is asked to be, apart from its prices."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, Self, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import UtcTime, parse_time
from neural_trader_governance.terms.market import Interval, interval_duration
from neural_trader_governance.terms.money import MONEY_MAX, DecimalText, parse_decimal
from neural_trader_tools.engine.faults import did_you_mean

Convention = Literal["default", "backtesting.py", "vectorbt", "backtrader", "empyrical", "quantstats"]
DividendRule = Literal["ignored", "paid"]
SameBarRule = Literal["pessimistic", "next_bar"]
FillRule = Literal["next_open", "close"]
Lots = Literal["fractional", "whole"]
SYMBOLS_MAX = 1_000
SOURCE_MAX_BYTES = 128 * 1024
BPS_MAX = 1_000.0
BORROW_BPS_MAX = 100_000.0
MARGIN_MIN = 0.01
RULES: Final = (
    "commission_per_unit",
    "commission_min",
    "spread_bps",
    "borrow_bps_annual",
    "margin",
    "volume_cap",
    "settlement_days",
    "dividends",
    "same_bar",
)
"""The settings that tools take together as `rules`, and that digests name only where they are set."""
SEED_MAX = 2**53
PARAMS_MAX_BYTES = 64 * 1024
PARAMS_MAX_DEPTH = 16
DEFAULT_CASH = Decimal(100_000)


class Settings(BaseModel):
    """How orders become fills. Immutable; part of every digest."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cash: DecimalText = Field(
        default=DEFAULT_CASH, gt=0, le=MONEY_MAX, description="In all, shared equally by the symbols"
    )
    commission_bps: float = Field(default=0.0, ge=0, le=BPS_MAX, description="Of the notional, each fill")
    slippage_bps: float = Field(default=0.0, ge=0, le=BPS_MAX, description="Worsens market and stop fills")
    fill: FillRule = Field(default="next_open", description="When a decision fills at the earliest")
    lots: Lots = Field(default="fractional", description="Whether quantities are cut to whole units")
    convention: Convention = Field(default="default", description="Whose definitions of metrics are used")
    commission_per_unit: DecimalText = Field(
        default=Decimal(0), ge=0, le=MONEY_MAX, description="In money, for each unit traded"
    )
    commission_min: DecimalText = Field(
        default=Decimal(0), ge=0, le=MONEY_MAX, description="Least commission of a fill, in money"
    )
    spread_bps: float = Field(default=0.0, ge=0, le=BPS_MAX, description="Half worsens market and stop fills")
    borrow_bps_annual: float = Field(
        default=0.0, ge=0, le=BORROW_BPS_MAX, description="Of a short's value, by calendar time"
    )
    margin: float = Field(
        default=1.0, ge=MARGIN_MIN, le=1, description="Part of a position that equity covers; 1: no leverage"
    )
    volume_cap: float | None = Field(
        default=None, gt=0, le=1, description="Part of a bar's volume that may be traded; null: no cap"
    )
    settlement_days: Literal[0, 1, 2] = Field(
        default=0, description="Sessions until the proceeds of a sale can pay for a purchase"
    )
    dividends: DividendRule = Field(default="ignored", description="Whether dividends are paid in cash")
    same_bar: SameBarRule = Field(
        default="pessimistic", description="Brackets in the bar of their limit or stop entry"
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.settlement_days and self.margin < 1:
            raise ValueError(
                "settlement_days needs margin 1: a margin account lends against what is unsettled"
            )
        return self

    @property
    def exposure_max(self) -> float:
        """The largest target and fraction: 1 / margin."""
        return 1.0 / self.margin

    def for_digest(self) -> dict[str, Any]:
        """Returns what digests say of the settings: of `RULES`, those that are set."""
        said = self.model_dump(mode="json")
        fields = type(self).model_fields
        return {
            name: value
            for name, value in said.items()
            if name not in RULES or getattr(self, name) != fields[name].default
        }


class BacktestRequest(BaseModel):
    """One backtest, complete: two equal requests on equal prices give equal digests."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    source: str = Field(min_length=1, max_length=SOURCE_MAX_BYTES)
    strategy_id: str | None = None
    symbols: Annotated[tuple[str, ...], Field(min_length=1, max_length=SYMBOLS_MAX)]
    interval: Interval = "1d"
    start: UtcTime | None = None
    end: UtcTime | None = None
    params: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    settings: Settings = Settings()
    seed: int = Field(default=0, ge=0, le=SEED_MAX)


def read_settings(
    *,
    cash: Any = None,
    commission_bps: Any = 0,
    slippage_bps: Any = 0,
    fill: str = "next_open",
    lots: str = "fractional",
    convention: str = "default",
    rules: Mapping[str, Any] | None = None,
) -> Settings:
    """Reads settings as an agent or a command line gives them; `rules` holds those that `RULES` names.

    Raises:
        InputError: a value is not a finite number in its range, or a word is not one of the offered ones.
    """
    choose("fill", fill, ("next_open", "close"))
    choose("lots", lots, ("fractional", "whole"))
    choose("convention", convention, get_args(Convention))
    return Settings(
        cash=number("cash", DEFAULT_CASH if cash is None else cash, above=Decimal(0), most=MONEY_MAX),
        commission_bps=float(number("commission_bps", commission_bps, least=Decimal(0), most=Decimal(1_000))),
        slippage_bps=float(number("slippage_bps", slippage_bps, least=Decimal(0), most=Decimal(1_000))),
        fill=cast(FillRule, fill),
        lots=cast(Lots, lots),
        convention=cast(Convention, convention),
        **_read_rules(rules or {}),
    )


def _read_rules(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the object `rules`: numbers in their ranges, words that are offered, names that exist."""
    for name in rules:
        if name not in RULES:
            raise InputError(
                "invalid_rules", f"there is no rule {str(name)!r:.40}", did_you_mean(str(name), RULES)
            )
    read: dict[str, Any] = {}
    for name in ("commission_per_unit", "commission_min"):
        read[name] = number(name, rules.get(name, 0), least=Decimal(0), most=MONEY_MAX)
    for name, most in (("spread_bps", BPS_MAX), ("borrow_bps_annual", BORROW_BPS_MAX)):
        read[name] = float(number(name, rules.get(name, 0), least=Decimal(0), most=Decimal(int(most))))
    read["margin"] = float(
        number("margin", rules.get("margin", 1), least=Decimal(str(MARGIN_MIN)), most=Decimal(1))
    )
    if rules.get("volume_cap") is not None:
        read["volume_cap"] = float(
            number("volume_cap", rules["volume_cap"], above=Decimal(0), most=Decimal(1))
        )
    days = number("settlement_days", rules.get("settlement_days", 0), least=Decimal(0), most=Decimal(2))
    if days != int(days):
        raise InputError("invalid_settlement_days", f"settlement_days {days} is no whole number", "0, 1 or 2")
    if days and read["margin"] < 1:
        raise InputError(
            "invalid_rules",
            f"settlement_days {days} with margin {read['margin']:g}: a margin account does not wait for cash",
            "leave one of them out",
        )
    read["settlement_days"] = int(days)
    choose("dividends", rules.get("dividends", "ignored"), ("ignored", "paid"))
    read["dividends"] = rules.get("dividends", "ignored")
    choose("same_bar", rules.get("same_bar", "pessimistic"), ("pessimistic", "next_bar"))
    read["same_bar"] = rules.get("same_bar", "pessimistic")
    return read


def read_params(params: Mapping[str, Any] | None) -> dict[str, JsonValue]:
    """Reads a strategy's parameters: what JSON can say, because a run is kept, digested and sent as JSON.

    Raises:
        InputError: `invalid_params`: NaN, infinity, lone surrogates, no JSON at all, too large or too deep.
    """
    try:
        text = json.dumps(params or {}, allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
        found: dict[str, JsonValue] = json.loads(text)
        depth = _depth(found)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            "invalid_params",
            f"params are not JSON: {str(error)[:100]}",
            "use finite numbers, text, true, false, null, lists and objects",
        ) from None
    if size > PARAMS_MAX_BYTES or depth > PARAMS_MAX_DEPTH:
        raise InputError(
            "invalid_params",
            f"params have {size:,} bytes, nested {depth} deep",
            f"keep them below {PARAMS_MAX_BYTES:,} bytes and {PARAMS_MAX_DEPTH} levels",
        )
    return found


def _depth(value: JsonValue) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0) if isinstance(value, dict | list) else 0


def number(
    name: str, value: Any, *, most: Decimal, above: Decimal | None = None, least: Decimal | None = None
) -> Decimal:
    """Reads one finite number within its bounds.

    Raises:
        InputError: it is no number, not finite, or out of bounds.
    """
    bound = f"above {above}" if above is not None else f"at least {least}"
    try:
        amount = parse_decimal(value)
    except ValueError as error:
        raise InputError(
            f"invalid_{name}", f"{name}: {error}", f"give a number {bound}, at most {most:,}"
        ) from None
    if (above is not None and amount <= above) or (least is not None and amount < least) or amount > most:
        raise InputError(
            f"invalid_{name}",
            f"{name} {amount:.6g} is out of range",
            f"give a number {bound}, at most {most:,}",
        )
    return amount


def read_period(
    interval: str, start: str | None, end: str | None
) -> tuple[str, UtcTime | None, UtcTime | None]:
    """Reads an interval and the two ends of a period: start inclusive, end exclusive.

    Raises:
        InputError: not an interval, not a time, or the end is not after the start (`reversed_dates`).
    """
    interval_duration(interval)
    first = None if start is None else parse_time(start)
    last = None if end is None else parse_time(end)
    if first is not None and last is not None and first >= last:
        raise InputError(
            "reversed_dates",
            f"start {start} is not before end {end} (end is exclusive)",
            "swap them, or leave one out",
        )
    return interval, first, last


def choose(name: str, word: str, offered: tuple[str, ...]) -> None:
    """Checks that a word is one of the offered ones.

    Raises:
        InputError: it is not; the message names the nearest.
    """
    if word not in offered:
        raise InputError(
            f"invalid_{name}", f"{name} {word!r:.40} is not offered", did_you_mean(str(word), offered)
        )
