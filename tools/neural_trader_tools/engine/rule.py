"""A rule: a strategy without state, from the features of a bar to its target exposure, in machine code.

    FEATURES = ("sma({fast})", "sma({slow})")

    def rule(fast_sma, slow_sma, *, fast: int = 20, slow: int = 50):
        return 1.0 if fast_sma > slow_sma else 0.0

Positional arguments are the features' values on the bar, in the order of `FEATURES`; keyword-only arguments
are the parameters, which `FEATURES` may use in braces. The rule is called on every bar on which no feature
is NaN; NaN keeps the last target. It sees one bar, and features are causal, so it cannot look ahead.
"""

import functools
import inspect
import math
import re
import string
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, Final, NoReturn, cast

import numba
import numpy as np
from numba.core import config, types
from numpy.typing import NDArray

from neural_trader_tools.engine.arena import ARENA
from neural_trader_tools.engine.faults import StrategyFault, did_you_mean
from neural_trader_tools.engine.parameters import Parameter, bind, convert, function_parameters

Floats = NDArray[np.float64]
NUMBERS: Final = ("int", "float", "bool")
_NEXT: Final = "write it like: def rule(fast_sma, slow_sma, *, fast: int = 20, slow: int = 50)"
PLAIN: Final = "use numbers, if, arithmetic, math and functions of this file, or write signals(bars)"


@dataclass(frozen=True)
class Rule:
    """A rule that keeps the form; compiled on first use.

    Attributes:
        features: The expressions of `FEATURES`, parameters in braces.
        arguments: Names of the features' values, in the same order.
        parameters: By name, in the order in which they are declared; int, float or bool.
        function: The user's function.
    """

    features: tuple[str, ...]
    arguments: tuple[str, ...]
    parameters: Mapping[str, Parameter]
    function: Any  # a FunctionType, which as an attribute would be read as a method

    def values(self, params: Mapping[str, Any]) -> tuple[int | float | bool, ...]:
        """Returns a value for every parameter, in declared order and type.

        Raises:
            StrategyFault: `unknown_parameter`, `invalid_parameter` or `missing_parameter`.
        """
        bound = bind(self.parameters, params)
        values = [convert(parameter, bound[name]) for name, parameter in self.parameters.items()]
        for name, value in zip(self.parameters, values, strict=True):
            if abs(value) >= 2**63:
                raise StrategyFault(
                    "invalid_parameter",
                    f"parameter {name!r} takes 64 bits, not {value}",
                    "give a smaller one",
                )
        return tuple(values)

    def expressions(self, params: Mapping[str, Any]) -> list[str]:
        """Returns the features to compute, the braces filled with the parameters' values.

        Raises:
            StrategyFault: as in `values`.
        """
        named = dict(zip(self.parameters, self.values(params), strict=True))
        return [expression.format(**named) for expression in self.features]

    def targets(
        self, features: Sequence[Floats], params: Mapping[str, Any], *, overwrite: bool = False
    ) -> Floats:
        """Returns the target exposure of every bar.

        Args:
            features: The values of `expressions(params)`, one array each, all of one length.
            params: The parameters that differ from their defaults.
            overwrite: Whether the targets may take the place of a feature that nobody else will read: memory
                that is in the cache already is quicker than more of it.

        Raises:
            StrategyFault: `target_out_of_range`, `rule_not_compiled`, or as in `values`.
        """
        columns = [np.ascontiguousarray(values, dtype=np.float64) for values in features]
        if len(columns) != len(self.features) or len({len(values) for values in columns}) > 1:
            raise ValueError(f"give {len(self.features)} arrays of one length")
        spare = _writeable(columns) if overwrite else None
        targets = ARENA.floats(len(columns[0])) if spare is None else spare
        bad = self._loop(*columns, *self.values(params), targets)
        if bad >= 0:
            fault = StrategyFault(
                "target_out_of_range",
                f"rule returned {targets[bad]} on bar {bad}, outside -1 … 1",
                "return a fraction of equity, or NaN to keep the last target",
            )
            refuse_at(self.function.__code__, fault)
        return targets

    @functools.cached_property
    def machine(self) -> Callable[..., float]:
        """The compiled rule: (features…, parameters… in declared order) -> target, callable from numba.

        Raises:
            StrategyFault: `rule_not_compiled`, with the line and the reason.
        """
        code = self.function.__code__
        machine = machine_of(self.function)
        kinds = {"int": types.int64, "float": types.float64, "bool": types.boolean}
        signature = (
            *(types.float64 for _ in self.features),
            *(kinds[parameter.kind] for parameter in self.parameters.values()),
        )
        numba_config = cast("Any", config)
        before, numba_config.ALWAYS_WARN_UNINIT_VAR = numba_config.ALWAYS_WARN_UNINIT_VAR, 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.filterwarnings("error", message="Detected uninitialized variable")
                machine.compile(signature)
        except Exception as error:  # numba raises its own, and whatever Python says about a wrong attribute
            line, reason = reason_of(error, code.co_filename)
            refuse_at(code, StrategyFault("rule_not_compiled", reason, PLAIN), line)
        finally:
            numba_config.ALWAYS_WARN_UNINIT_VAR = before
        returned = machine.nopython_signatures[0].return_type
        if not isinstance(returned, types.Float | types.Integer | types.Boolean):
            fault = StrategyFault(
                "rule_not_compiled",
                f"rule returns {_words(returned)} where a number belongs",
                "return a target exposure on every path, float('nan') to keep the last one",
            )
            refuse_at(code, fault)
        return cast("Callable[..., float]", machine)

    @functools.cached_property
    def _loop(self) -> Callable[..., int]:
        """The rule over whole arrays: writes the targets, returns the first bar out of range, or -1."""
        columns = [f"c{number}" for number in range(len(self.features))]
        values = [f"v{number}" for number in range(len(self.features))]
        params = [f"p{number}" for number in range(len(self.parameters))]
        text = _LOOP.format(
            arguments=", ".join([*columns, *params]),
            values=", ".join(values),
            row=", ".join(f"{column}[bar]" for column in columns),
            undefined=" or ".join(f"{value} != {value}" for value in values),
            given=", ".join([*values, *params]),
        )
        scope: dict[str, Any] = {"machine": self.machine, "nan": math.nan}
        exec(compile(text, "<loop of the rule>", "exec"), scope)  # noqa: S102  # names and numbers of ours
        return _compile(scope["loop"])


def _writeable(columns: Sequence[Floats]) -> Floats | None:
    """Returns the memory of the first column that is not another's, such as a frame's; None where all are."""
    for column in columns:
        memory = column.view()
        try:
            memory.flags.writeable = True
        except ValueError:
            continue
        return memory
    return None


_LOOP: Final = """\
def loop({arguments}, targets):
    bad = -1
    for bar in range(targets.size):
        {values}, = {row},
        if {undefined}:
            targets[bar] = nan
        else:
            target = machine({given})
            targets[bar] = target
            if bad < 0 and not (target != target or -1.0 <= target <= 1.0):
                bad = bar
    return bad
"""


def find_rule(namespace: Mapping[str, Any]) -> Rule | None:
    """Returns the rule that a file defines with `FEATURES` and `rule`; None where it lacks one of them.

    Raises:
        StrategyFault: `invalid_rule`: the two do not fit together, each with its line.
    """
    function, features = namespace.get("rule"), namespace.get("FEATURES")
    function = getattr(function, "py_func", function)  # somebody may have compiled it already
    if features is None or not isinstance(function, FunctionType):
        return None
    code = function.__code__

    def refuse(what: str, next_step: str = _NEXT) -> NoReturn:
        refuse_at(code, StrategyFault("invalid_rule", what, next_step))

    if not isinstance(features, tuple | list) or not features:
        refuse(f"FEATURES is {features!r:.60}", 'write FEATURES = ("sma({fast})", "sma({slow})")')
    texts = tuple(text for text in cast("list[object]", features) if isinstance(text, str))
    if len(texts) < len(cast("list[object]", features)):
        refuse("FEATURES holds something that is not text", 'write FEATURES = ("sma({fast})",)')
    signature = inspect.signature(function).parameters.values()
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        refuse("rule is async or a generator", "return one number")
    for argument in signature:
        if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
            refuse(f"rule takes *{argument.name}: its arguments cannot be counted")
    names = tuple(a.name for a in signature if a.kind is not a.KEYWORD_ONLY)
    parameters, _ = function_parameters(function, after=len(names))
    fields = [_fields(text, refuse) for text in texts]
    for argument in signature:
        if argument.kind is argument.KEYWORD_ONLY:
            continue
        if argument.default is not argument.empty or any(argument.name in used for used in fields):
            refuse(f"{argument.name} is a parameter but stands among the features' values; put it after *")
    if len(names) != len(texts):
        left = [f"FEATURES has none for {name}" for name in names[len(texts) :]]
        left += [f"rule has no argument for {text!r:.60}" for text in texts[len(names) :]]
        refuse(
            f"rule takes {len(names)} values and FEATURES gives {len(texts)}: {left[0]}",
            "give one positional argument to each feature, in order",
        )
    for text, used in zip(texts, fields, strict=True):
        for name in used:
            if name not in parameters:
                refuse(
                    f"{text!r:.60} uses {{{name}}}, which is no parameter of rule",
                    did_you_mean(name, parameters) if parameters else f"add it: *, {name}: int = 20",
                )
    for parameter in parameters.values():
        if parameter.kind not in NUMBERS:
            refuse(
                f"parameter {parameter.name!r} of rule is not declared as int, float or bool",
                f"write {parameter.name}: float, or give it such a default",
            )
    for part in (function, *_helpers(function)):
        if "random" in part.__code__.co_names:
            refuse("rule draws chance, which would be another state", "decide by features and parameters")
    return Rule(texts, names, parameters, function)


def _fields(text: str, refuse: Callable[[str, str], NoReturn]) -> set[str]:
    """Returns the names in braces."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        refuse(f"{text!r:.60}: {error}", 'write a parameter in braces: "sma({fast})"')
    found: set[str] = set()
    for _, name, form, conversion in parts:
        if name is not None:
            if not name.isidentifier() or form or conversion:
                refuse(f"{text!r:.60} holds braces that name no parameter", 'write "sma({fast})"')
            found.add(name)
    return found


def _helpers(function: FunctionType) -> list[FunctionType]:
    """Returns the plain functions of the same file that a function calls, and those that they call."""
    found: dict[str, FunctionType] = {}
    waiting = [function]
    while waiting:
        for name in waiting.pop().__code__.co_names:
            value = function.__globals__.get(name)
            if (
                isinstance(value, FunctionType)
                and value.__code__.co_filename == function.__code__.co_filename
                and name not in found
            ):
                found[name] = value
                waiting.append(value)
    return list(found.values())


def machine_of(function: FunctionType, *, makes_arrays: bool = True) -> Any:
    """Returns a function compiled, with the plain functions of its file that it calls.

    Keyword-only arguments become positional ones, which numba knows. A function that makes no arrays needs
    no counting of references to them, which is most of what a short call costs.
    """
    scope = {**function.__globals__}
    for helper in _helpers(function):
        scope[helper.__name__] = _compile(_in_scope(helper, helper.__code__, scope), makes_arrays)
    code = function.__code__
    # keyword-only arguments follow the others in the frame, so that moving the border is enough
    flat = code.replace(co_argcount=code.co_argcount + code.co_kwonlyargcount, co_kwonlyargcount=0)
    return _compile(_in_scope(function, flat, scope), makes_arrays)


def _in_scope(function: FunctionType, code: CodeType, scope: dict[str, Any]) -> FunctionType:
    return FunctionType(code, scope, function.__name__, function.__defaults__, function.__closure__)


def _compile(function: Callable[..., Any], makes_arrays: bool = True) -> Any:
    """Compiles without a cache, which a sandbox does not have; x / 0 is infinity or NaN, as in numpy."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
    if not makes_arrays:
        options["_nrt"] = False
    return cast("Any", numba).njit(**options)(function)


def reason_of(error: Exception, filename: str) -> tuple[int | None, str]:
    """Returns the line and the first sentence of what numba says, in words that help."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    line = re.search(rf"{re.escape(filename)}\D{{1,10}}(\d+)", text)
    lines = [part.strip() for part in text.splitlines()]
    lines = [part for part in lines if part and not part.startswith(("Failed in", "File", "During"))]
    first = re.sub(r"\.* *Raised from .*", "", lines[0] if lines else type(error).__name__)
    first = re.sub(r" from '[^']*'", "", first).rstrip(":")
    if "found for signature" in first and len(lines) > 1:
        call = lines[1].removeprefix(">>> ")
        first = f"there is no {call}"
        if call.startswith(("getitem", "static_getitem")):
            first = "it indexes a number: an argument is the feature's value on this bar, not its history"
        elif call.startswith("setitem"):
            first = "it changes something outside: a rule keeps no state"
    elif "STORE_GLOBAL" in first:
        first = "it changes a global: a rule keeps no state"
    elif undefined := re.match(r"Detected uninitialized variable (\w+)", first):
        first = f"{undefined[1]} has no value on some path"
    elif untyped := re.match(r"Untyped global name '(\w+)'", first):
        first = f"it uses {untyped[1]}, which is no number, module or plain function"
    return int(line[1]) if line else None, first[:200].replace("; ", ", ")


def _words(returned: Any) -> str:
    if isinstance(returned, types.Optional):
        return "nothing (None) on some path"
    return {"none": "nothing (None)"}.get(str(returned), str(returned)[:40])


def refuse_at(code: CodeType, fault: StrategyFault, line: int | None = None) -> NoReturn:
    """Raises a fault as if the strategy's own line had: the sandbox reads the line from the traceback."""
    blank = "\n" * ((line or code.co_firstlineno) - 1)
    exec(compile(blank + "raise fault from None", code.co_filename, "exec"), {"fault": fault})  # noqa: S102  # ours
    raise fault
