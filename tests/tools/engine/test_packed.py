"""Packed machine code: another process decides the same with it, and compiles nothing."""

import os
from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np
import pytest
from numba.core import event
from tests.tools.engine.test_event import CROSSES, EXAMPLE, frame

from neural_trader_tools.engine import guest, packed

numba_event: Any = event
njit: Any = cast("Any", numba).njit
SETTINGS = {"cash": 10_000.0}


class Compilations(numba_event.Listener):
    """Counts what is compiled."""

    def __init__(self) -> None:
        self.count = 0

    def on_start(self, event: Any) -> None:
        self.count += 1

    def on_end(self, event: Any) -> None:
        pass


def compilations(run: Callable[[], Any]) -> int:
    listener = Compilations()
    with numba_event.install_listener("numba:compile", listener):
        run()
    return listener.count


def in_another_process(source: str) -> str:
    """What `compile_strategy` returns in a child: nothing that it loaded or compiled is in this process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        arguments = {"source": source, "settings": SETTINGS}
        value, _ = guest.compile_strategy(arguments, {"bars": frame(30).head(1)})
        os.write(write, str(value["machine"]).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


@pytest.mark.parametrize("source", [CROSSES["rule"], EXAMPLE.read_text()], ids=["rule", "on_bar"])
def test_what_one_process_compiled_decides_the_same_in_another_that_compiles_nothing(source: str) -> None:
    guest.warm_up()
    bars = frame(2_000)
    own = {"source": source, "settings": SETTINGS, "params": {}}
    expected = guest.run_strategy(own, {"bars": bars})  # what it calls beside itself is there from here on
    given = {**own, "machine": in_another_process(source)}
    found: list[Any] = []
    assert compilations(lambda: found.append(guest.run_strategy(given, {"bars": bars}))) == 0
    assert compilations(lambda: guest.run_strategy(own, {"bars": bars})) > 0
    assert found[0][0] == expected[0]
    assert any(len(column) for column in expected[1].values())
    for name, column in expected[1].items():
        assert np.array_equal(found[0][1][name], column, equal_nan=True), name


@pytest.mark.parametrize("text", ["", "AAAA", "not base64", "eJwDAAAAAAE="])
def test_what_is_no_machine_code_is_compiled_again(text: str) -> None:
    given = {"source": CROSSES["rule"], "settings": SETTINGS}
    bars = frame(60)
    expected = guest.run_strategy(given, {"bars": bars})[1]["target"]
    found = guest.run_strategy({**given, "machine": text}, {"bars": bars})[1]["target"]
    assert np.array_equal(found, expected, equal_nan=True)


def test_code_of_other_arguments_is_compiled_again() -> None:
    def doubled(x: float) -> float:
        return 2 * x

    def halved(x: float) -> float:
        return x / 2

    double, half = njit(doubled), njit(halved)
    assert double(2) == 4
    packed.adopt(half, packed.pack(double))
    assert half(3.0) == 1.5


def test_a_strategy_that_is_not_compiled_has_no_machine_code() -> None:
    value, columns = guest.compile_strategy({"source": CROSSES["class"]}, {"bars": frame(3)})
    assert (value, columns) == ({"machine": None}, {})
