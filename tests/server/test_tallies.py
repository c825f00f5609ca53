"""Tallies: every call of every process is counted once, under the name and the outcome that it had."""

import ast
import subprocess
import sys

import pytest

from neural_trader_server.tallies import OTHER, Tallies, Times

BOUNDS = (0.1, 1.0)
FORKS = """
import os
from neural_trader_server.tallies import Tallies

tallies = Tallies(["a"], (0.1, 1.0))
tallies.add("a", "ok", 0.1)
children = []
for number in range(4):
    child = os.fork()
    if child == 0:
        for _ in range(500):
            tallies.add("a", "ok", 0.1)
            tallies.add("a", f"code_{number}", 0.5)
        os._exit(0)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
print(tallies.outcomes())
print(tallies.times()["a"].counts)
"""


def test_calls_are_counted_by_tool_outcome_and_time() -> None:
    tallies = Tallies(["b", "a"], BOUNDS)
    for seconds in (0.05, 0.1, 0.5, 2.0):
        tallies.add("a", "ok", seconds)
    tallies.add("b", "denied", 0.25)
    assert tallies.outcomes() == {("a", "ok"): 4, ("b", "denied"): 1}
    assert tallies.times() == {"a": Times((2, 1, 1), 2.65), "b": Times((0, 1, 0), 0.25)}
    assert (tallies.has("a"), tallies.has("c")) == (True, False)
    with pytest.raises(KeyError):
        tallies.add("c", "ok", 0.1)
    tallies.close()


def test_processes_that_are_forked_count_together_and_what_they_counted_outlives_them() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, check=True, timeout=60
    )
    outcomes, counts = done.stdout.splitlines()
    expected = {("a", "ok"): 2001} | {("a", f"code_{number}"): 500 for number in range(4)}
    assert ast.literal_eval(outcomes) == expected
    assert counts == "(2001, 2000, 0)"


def test_more_outcomes_than_there_is_room_for_are_counted_under_one() -> None:
    tallies = Tallies(["a", "b"], BOUNDS)
    for number in range(2100):
        tallies.add("a", f"code_{number}", 0.1)
    tallies.add("b", "new", 0.1)
    found = tallies.outcomes()
    assert sum(found.values()) == 2101
    assert found["a", OTHER] > 50
    assert found["b", OTHER] == 1
    assert len(found) <= 2048
    tallies.close()
