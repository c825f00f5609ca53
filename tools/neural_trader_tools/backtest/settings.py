"""Settings: everything that a backtest is asked to be, apart from its prices."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import UtcTime, parse_time
from neural_trader_governance.terms.market import Interval, interval_duration
from neural_trader_governance.terms.money import MONEY_MAX, DecimalText, parse_decimal
from neural_trader_tools.engine.faults import did_you_mean

FillRule = Literal["next_open", "close"]
Lots = Literal["fractional", "whole"]
SYMBOLS_MAX = 50
SOURCE_MAX_BYTES = 128 * 1024
BPS_MAX = 1_000.0
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
    convention: Literal["default"] = Field(default="default", description="Whose definitions are used")


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
) -> Settings:
    """Reads settings as an agent or a command line gives them.

    Raises:
        InputError: a value is not a finite number in its range, or a word is not one of the offered ones.
    """
    choose("fill", fill, ("next_open", "close"))
    choose("lots", lots, ("fractional", "whole"))
    if convention != "default":
        raise InputError(
            "unsupported_convention",
            f"convention {convention!r:.40} is not offered yet",
            "leave it out: 'default' is the one there is, docs/backtest.md states its definitions",
        )
    return Settings(
        cash=number("cash", DEFAULT_CASH if cash is None else cash, above=Decimal(0), most=MONEY_MAX),
        commission_bps=float(number("commission_bps", commission_bps, least=Decimal(0), most=Decimal(1_000))),
        slippage_bps=float(number("slippage_bps", slippage_bps, least=Decimal(0), most=Decimal(1_000))),
        fill=cast(FillRule, fill),
        lots=cast(Lots, lots),
    )


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
