"""Parameters: what a strategy lets its user set, and how given values become the declared types."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from neural_trader_tools.engine.faults import StrategyFault, did_you_mean

KINDS: Final[dict[str, type]] = {"int": int, "float": float, "bool": bool, "str": str}
MISSING: Final = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its name, its kind (`int`, `float`, `bool`, `str` or empty for any) and default."""

    name: str
    kind: str
    default: Any


def class_parameters(cls: type, base: type) -> dict[str, Parameter]:
    """Returns the annotated, public class attributes of a class and its parents up to `base`."""
    found: dict[str, Parameter] = {}
    for parent in reversed(cls.__mro__):
        if parent is base or not issubclass(parent, base):
            continue
        annotations: Mapping[str, Any] = inspect.get_annotations(parent)
        for name, annotation in annotations.items():
            if not name.startswith("_"):
                found[name] = Parameter(name, _kind(annotation), getattr(cls, name, MISSING))
    return found


def function_parameters(function: Callable[..., Any], *, after: int = 1) -> tuple[dict[str, Parameter], bool]:
    """Returns the parameters after the first (the bars), and whether any other name is taken too.

    Args:
        function: Whose signature is read.
        after: How many arguments come first that are no parameters.
    """
    found: dict[str, Parameter] = {}
    takes_any = False
    for position, parameter in enumerate(inspect.signature(function).parameters.values()):
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            takes_any = True
        elif position >= after and parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            kind = _kind(parameter.annotation)
            if parameter.annotation is MISSING and parameter.default is not MISSING:
                kind = _kind(type(parameter.default))
            found[parameter.name] = Parameter(parameter.name, kind, parameter.default)
    return found, takes_any


def bind(
    declared: Mapping[str, Parameter], given: Mapping[str, Any], *, takes_any: bool = False
) -> dict[str, Any]:
    """Returns a value for every declared parameter: the given one in the declared type, else the default.

    Raises:
        StrategyFault: a name is not declared (`unknown_parameter`), a value does not fit its type
            (`invalid_parameter`), or one without a default is not given (`missing_parameter`).
    """
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name in declared:
            values[name] = convert(declared[name], value)
        elif takes_any:
            values[name] = value
        else:
            raise StrategyFault(
                "unknown_parameter",
                f"the strategy has no parameter {name!r:.60}",
                did_you_mean(name, declared),
            )
    for name, parameter in declared.items():
        if name not in values:
            if parameter.default is MISSING:
                raise StrategyFault(
                    "missing_parameter",
                    f"parameter {name!r} has no default and was not given",
                    "give it in params",
                )
            values[name] = parameter.default
    return values


def convert(parameter: Parameter, value: Any) -> Any:
    """Returns the value in the parameter's type; text is read, as it comes from a command line."""
    kind = parameter.kind
    try:
        if kind == "bool" and not isinstance(value, bool):
            return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]
        if kind == "int":
            number = int(value) if isinstance(value, str | int) else float(value)
            if isinstance(value, bool) or number != int(number):
                raise ValueError
            return int(number)
        if kind == "float":
            if isinstance(value, bool) or not abs(float(value)) < float("inf"):
                raise ValueError
            return float(value)
        if kind == "str" and not isinstance(value, str):
            raise ValueError
    except (ValueError, KeyError, TypeError, OverflowError):
        raise StrategyFault(
            "invalid_parameter",
            f"parameter {parameter.name!r} takes {kind}, not {value!r:.60}",
            f"give {'a finite' if kind == 'float' else 'a'} value of type {kind}",
        ) from None
    return value


def _kind(annotation: Any) -> str:
    """Returns the kind of an annotation, which is text under `from __future__ import annotations`."""
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return name if name in KINDS else ""
