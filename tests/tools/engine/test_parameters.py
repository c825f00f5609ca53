"""Parameters: what is declared, what is given, what fits."""

from typing import Any

import pytest

from neural_trader_tools.engine.faults import StrategyFault
from neural_trader_tools.engine.parameters import (
    Parameter,
    bind,
    class_parameters,
    convert,
    function_parameters,
)
from neural_trader_tools.engine.strategy import Strategy


class Base(Strategy):
    fast: int = 10
    ratio: float = 0.5
    _hidden: int = 1


class Child(Base):
    fast: int = 20
    mode: "str" = "long"


def test_annotated_attributes_of_a_class_and_its_parents_are_parameters() -> None:
    found = class_parameters(Child, Strategy)
    assert {name: (p.kind, p.default) for name, p in found.items()} == {
        "fast": ("int", 20),
        "ratio": ("float", 0.5),
        "mode": ("str", "long"),
    }


def test_arguments_after_the_bars_are_parameters() -> None:
    def signals(bars: object, fast: int, slow=50, *, on=True, **rest: object) -> None:  # pyright: ignore[reportMissingParameterType, reportUnknownParameterType]  # users leave them out
        raise NotImplementedError

    found, takes_any = function_parameters(signals)  # pyright: ignore[reportUnknownArgumentType]  # as above
    assert [(p.name, p.kind) for p in found.values()] == [("fast", "int"), ("slow", "int"), ("on", "bool")]
    assert takes_any


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("int", "12", 12),
        ("int", 12.0, 12),
        ("float", 3, 3.0),
        ("float", "0.25", 0.25),
        ("bool", "true", True),
        ("bool", "False", False),
        ("str", "x", "x"),
        ("", [1], [1]),
    ],
)
def test_a_value_is_read_in_the_declared_type(kind: str, given: Any, value: Any) -> None:
    read = convert(Parameter("p", kind, 0), given)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("int", 1.5),
        ("int", "x"),
        ("int", True),
        ("int", None),
        ("int", float("nan")),
        ("float", "nan"),
        ("float", float("inf")),
        ("float", False),
        ("bool", "maybe"),
        ("bool", 2),
        ("str", 1),
    ],
)
def test_a_value_that_does_not_fit_is_refused(kind: str, given: Any) -> None:
    with pytest.raises(StrategyFault, match="invalid_parameter"):
        convert(Parameter("p", kind, 0), given)


def test_unknown_and_missing_names_are_refused() -> None:
    declared = {"fast": Parameter("fast", "int", 1)}
    assert bind(declared, {}) == {"fast": 1}
    with pytest.raises(StrategyFault, match="did you mean 'fast'"):
        bind(declared, {"fats": 2})
    assert bind(declared, {"fats": 2}, takes_any=True) == {"fats": 2, "fast": 1}
    from neural_trader_tools.engine.parameters import MISSING

    with pytest.raises(StrategyFault, match="missing_parameter"):
        bind({"fast": Parameter("fast", "int", MISSING)}, {})
