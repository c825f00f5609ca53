"""Targets: the order stream of a target-exposure array, and the short way through bars with nothing else."""

import math
from typing import Any, Final, cast

import numpy as np
from llvmlite import ir  # pyright: ignore[reportMissingTypeStubs]  # comes with numba, untyped
from numba import extending, types

from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.account import CASH, MAINTENANCE, POSITION, Floats, Ints
from neural_trader_tools.engine.compiled import compiled_bare
from neural_trader_tools.engine.filling import fill_target

_TARGET, _ACTION, _SIZE = o.TARGET, o.ACTION, o.SIZE
TOGETHER: Final = 64
"""How many targets are compared at once, see `differing`."""
_STRETCH: Final = 256
_AHEAD: Final = 8
"""Rows whose opens are fetched ahead of time: waiting for one from memory takes as long as five fills."""


def _fetch(context: Any, values: Any, place: Any) -> Any:  # numba calls it with types, not with values
    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = target.make_array(signature.args[0])(target, builder, arguments[0])
        address = builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        form = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        hint = builder.module.declare_intrinsic("llvm.prefetch", [address.type], form)
        builder.call(hint, [address, number(0), number(3), number(1)])  # to read, to keep, data
        return target.get_dummy_value()

    return cast("Any", types).void(values, place), generate


_prefetch: Any = cast("Any", extending).intrinsic(_fetch)


def _compare(context: Any, values: Any, place: Any) -> Any:
    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = target.make_array(signature.args[0])(target, builder, arguments[0])
        row = ir.VectorType(ir.IntType(64), TOGETHER).as_pointer()
        here = builder.gep(array.data, [arguments[1]])
        before = builder.gep(here, [ir.Constant(ir.IntType(64), -1)])
        one, other = (builder.load(builder.bitcast(one, row), align=8) for one in (here, before))
        return builder.bitcast(builder.icmp_unsigned("!=", one, other), ir.IntType(TOGETHER))

    return cast("Any", types).uint64(values, place), generate


def _count_zeros(context: Any, word: Any) -> Any:
    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return cast("Any", types).int64(cast("Any", types).uint64), generate


differing: Any = cast("Any", extending).intrinsic(_compare)
"""`differing(values, place)`: which of `TOGETHER` values from a place on have other bits than the one before
each, as the bits of a word, the first the lowest. The place is 1 or more, and so many values are there."""

first_of: Any = cast("Any", extending).intrinsic(_count_zeros)
"""`first_of(word)`: the number of the lowest bit that is set in a uint64; there is one."""


def target_changes(targets: Floats) -> Floats:
    """Returns the order stream of a target-exposure array: one row wherever the target changes.

    The target before the first bar is 0; NaN keeps the last one.
    """
    bars = np.empty(len(targets))  # only as much of it as is written takes memory
    commands = np.empty((changed_bars(targets, bars), len(o.COLUMNS)))
    write_changes(targets, bars, commands)
    return commands


@compiled_bare
def changed_bars(targets: Floats, bars: Floats) -> int:
    """Writes the bars on which the target changes, see `target_changes`, and returns how many there are.

    Args:
        targets: Target exposures.
        bars: Out: as long as the targets, of which so many are written.
    """
    size = targets.shape[0]
    count, last, bar = 0, 0.0, 0
    while bar < size:
        if 0 < bar <= size - TOGETHER:
            found = differing(targets, bar)
            while found != 0:
                place = bar + first_of(found)
                found &= found - np.uint64(1)
                if targets[place] != last and not math.isnan(targets[place]):
                    last = targets[place]
                    bars[count] = place
                    count += 1
            bar += TOGETHER
            continue
        if targets[bar] != last and not math.isnan(targets[bar]):
            last = targets[bar]
            bars[count] = bar
            count += 1
        bar += 1
    return count


@compiled_bare
def write_changes(targets: Floats, bars: Floats, commands: Floats) -> None:
    """Writes the order stream of target changes.

    Args:
        targets: Target exposures.
        bars: See `changed_bars`.
        commands: Out: a row for each of them.
    """
    for row in range(commands.shape[0]):
        bar = int(bars[row])
        commands[row, 0] = bar
        commands[row, 1] = _TARGET
        commands[row, 2] = 0.0
        commands[row, 3] = targets[bar]
        commands[row, 4] = 0.0
        for column in range(5, 10):
            commands[row, column] = np.nan
        commands[row, 10] = 0.0
        commands[row, 11] = np.nan
        commands[row, 12] = np.nan
        commands[row, 13] = 0.0


@compiled_bare
def hold(
    first: int,
    last: int,
    cash: float,
    position: float,
    least: float,
    close: Floats,
    equity: Floats,
    positions: Floats,
) -> int:
    """Marks bars on which nothing trades, up to the first whose equity is not above `least` x close.

    Returns:
        That bar, or `last`.

    In stretches, so that looking for a fall costs no more than they do. Slices, because only a loop that
    counts from 0 becomes vector instructions: elsewhere each index might be negative.
    """
    bar = first
    while bar < last:
        until = min(bar + _STRETCH, last)
        prices, values = close[bar:until], equity[bar:until]
        fell = 0
        for ahead in range(prices.shape[0]):
            value = cash + position * prices[ahead]
            values[ahead] = value
            fell |= value <= least * prices[ahead]
        if fell != 0:
            while not cash + position * close[bar] <= least * close[bar]:
                bar += 1
            break
        bar = until
    if positions.shape[0] > 0:
        units = positions[first:bar]
        for ahead in range(units.shape[0]):
            units[ahead] = position
    return bar


@compiled_bare
def play_targets(
    bar: int,
    row: int,
    open_: Floats,
    close: Floats,
    commands: Floats,
    rules: Floats,
    account: Floats,
    fills: Floats,
    equity: Floats,
    positions: Floats,
    states: Ints,
) -> tuple[int, int]:
    """Plays on as long as there are only targets, each at the open after it, past the book, which is empty.

    Only where nothing is to be done before an open or at a close, and no volume or settlement bounds a fill.

    Args:
        bar: The first bar that is not marked yet.
        row: The first row of the stream that was not submitted yet.
        open_: As in `kernel.play`, and so are the others.
        close: See open_.
        commands: See open_.
        rules: See open_.
        account: See open_.
        fills: See open_.
        equity: See open_.
        positions: See open_.
        states: See open_.

    Returns:
        The bar and the row at which the event loop has to go on.
    """
    bars, rows = close.shape[0], commands.shape[0]
    while row < rows and commands[row, _ACTION] == _TARGET:
        until = int(commands[row, 0]) + 1
        if until >= bars or (row + 1 < rows and commands[row + 1, 0] < until):
            break  # it never fills, or another row replaces it
        if row + _AHEAD < rows:
            _prefetch(open_, min(int(commands[row + _AHEAD, 0]) + 1, bars - 1))
        position = account[POSITION]
        least = rules[MAINTENANCE] * abs(position)
        bar = hold(bar, until, account[CASH], position, least, close, equity, positions)
        if bar < until:
            break
        fill_target(bar, row, commands[row, _SIZE], open_[bar], rules, account, fills, states)
        row += 1
    return bar, row
