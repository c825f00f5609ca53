"""Which combinations are tried: all, some, and each with a seed of its own."""

from typing import Any

import pytest

from neural_trader_governance.errors import InputError
from neural_trader_tools.backtest.sweeps.space import check_axes, read_axis, read_space, seed_of
from neural_trader_tools.strategies.outline import read_outline


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ("5:9:2", (5, 7, 9)),
        ("5:8:2", (5, 7)),
        ("3:5", (3, 4, 5)),
        ("0.1:0.3:0.1", (0.1, 0.2, 0.3)),
        ("1,2.5", (1.0, 2.5)),
        ("a, b", ("a", "b")),
        ("true,false", (True, False)),
        ([1, 2], (1, 2)),
        (7, (7,)),
    ],
)
def test_values_can_be_written_in_several_ways(given: Any, values: tuple[Any, ...]) -> None:
    found = read_axis("x", given, "grid").values
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("grid", "method", "samples", "message"),
    [
        ({}, "grid", None, "0 parameters"),
        ({"x": "5:1"}, "grid", None, "did you mean"),
        ({"x": "1:5:0"}, "grid", None, "step above 0"),
        ({"x": "1:b"}, "grid", None, "write a list"),
        ({"x": "0.1:0.9"}, "grid", None, "give a step"),
        ({"x": [1, "a"]}, "grid", None, "one kind"),
        ({"x": [1, 1]}, "grid", None, "once"),
        ({"x": [None]}, "grid", None, "write a list"),
        ({"x": [float("nan")]}, "grid", None, "finite"),
        ({"x": [2**63]}, "grid", None, "64 bits"),
        ({"x": "1:2000", "y": "1:2000"}, "grid", None, "4,000,000 combinations; at most 1,000,000"),
        ({"x": "1:10"}, "random", 0, "below 1"),
        ({"x": "1:10"}, "grid", 5, "method=random"),
        ({"x": "1:10"}, "bayesian", 5_000, "at most 2,000"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(
    grid: dict[str, Any], method: str, samples: int | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_space(grid, method, samples, 0)


def test_a_grid_is_every_combination_once() -> None:
    space = read_space({"x": "1:3", "y": ["a", "b"]}, "grid", None, 0)
    found = space.combinations(0, space.count)
    assert [tuple(each.values()) for each in found] == [(x, y) for x in (1, 2, 3) for y in "ab"]
    assert space.combinations(2, 4) == found[2:4]


def test_a_random_choice_repeats_by_its_seed_and_no_combination_in_it() -> None:
    space = read_space({"x": "1:100", "y": "1:100"}, "random", 500, 3)
    found = space.combinations(0, 500)
    assert len({tuple(each.values()) for each in found}) == 500
    assert read_space({"x": "1:100", "y": "1:100"}, "random", 500, 3).combinations(100, 110) == found[100:110]
    assert read_space({"x": "1:100", "y": "1:100"}, "random", 500, 4).combinations(0, 500) != found
    assert read_space({"x": "1:3"}, "random", 500, 3).count == 3


def test_an_interval_is_drawn_from_by_number() -> None:
    space = read_space({"x": "0.5:1.5", "y": [1, 2]}, "random", 50, 1)
    found = space.combinations(0, 50)
    assert space.combinations(20, 30) == found[20:30]
    assert all(0.5 <= float(each["x"]) <= 1.5 for each in found)
    assert len({each["x"] for each in found}) == 50


def test_a_seed_depends_on_the_parameters_not_on_their_order() -> None:
    assert seed_of(1, {"a": 1, "b": 2}) == seed_of(1, {"b": 2, "a": 1})
    assert len({seed_of(seed, {"a": value}) for seed in range(3) for value in range(3)}) == 9


TYPED = """
class Cross(Strategy):
    fast: int = 5
    part: float = 0.5
    both: bool = True
    name: str = "a"
    def on_bar(self, bar): ...
"""


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"fast": "5-50"}, "did you mean '5:50'"),
        ({"fast": ["5..50 by 5"]}, "did you mean '5:50:5'"),
        ({"fast": "many,few"}, "'fast' takes int, not 'many'; .*give 5:50:5"),
        ({"fast": "1.5,2"}, "takes int, not 1.5"),
        ({"part": ["half"]}, "takes float, not 'half'; .*give 0.1:0.9:0.1"),
        ({"both": [3, 4]}, "takes bool"),
        ({"name": [3, 4]}, "takes str, not 3; .*give text"),
    ],
)
def test_a_value_that_a_parameter_cannot_take_is_refused_with_what_was_meant(
    grid: dict[str, Any], message: str
) -> None:
    space = read_space(grid, "grid", None, 0)
    with pytest.raises(InputError, match=message):
        check_axes(space.axes, read_outline(TYPED).kinds)


def test_values_that_the_sandbox_would_convert_pass() -> None:
    space = read_space({"fast": ["5", "6"], "part": [1, 2], "both": ["true", "0"]}, "grid", None, 0)
    check_axes(space.axes, read_outline(TYPED).kinds)
    check_axes(read_space({"any": ["a"]}, "grid", None, 0).axes, {})
    drawn = read_space({"fast": "0.5:9.5"}, "random", 5, 0)
    with pytest.raises(InputError, match="whole ends"):
        check_axes(drawn.axes, read_outline(TYPED).kinds)
