"""Advice: what the text of an error tells an agent to do, read by rules and by nothing else.

The rules know our form, `code: what happened; next step`, and English such as "did you mean AAPL?",
"use one of: …", "give 1 to 50". They know no tool, no code and no argument: what they cannot read, a model
has to guess.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from tests.flows.agents.places import Path, at, leaves, name, put, renamed, without

FORM = re.compile(r"([a-z][a-z0-9_]*): (\S.*)", re.DOTALL)
PERSON = re.compile(r"a person|persons?\b|approver|the operator|`?neural-trader [a-z]|not be submitted")
QUOTED = re.compile(r"'([^']{1,90})'|\"([^\"]{1,90})\"")
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")
Arguments = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One call of a tool."""

    tool: str
    arguments: Arguments


@dataclass(frozen=True)
class Ask:
    """Call another tool first, and put what it answers at a place of the arguments."""

    tool: str
    place: Path
    wait: bool = False
    """Until that tool has seen the end of it; then the same call again."""


@dataclass(frozen=True)
class Stop:
    """There is nothing that the agent itself could do."""

    why: str


Advice = Call | Ask | Stop | None


def read(text: str, call: Call, tools: Collection[str], knows: Mapping[str, Any]) -> Advice:
    """Returns what an error says to do; None where it says nothing that these rules read.

    Args:
        text: The whole error.
        call: What was refused.
        tools: The names of the tools that are served.
        knows: What the agent has at hand, by argument, where an error says that one is missing.
    """
    form = FORM.fullmatch(text)
    if form is None or "; " not in form[2]:
        return None
    what, _, step = form[2].partition("; ")
    for rule in _RULES:
        found = rule(_Refused(what, step, call, frozenset(tools), knows))
        if found is not None:
            return found
    return None


@dataclass(frozen=True)
class _Refused:
    what: str
    step: str
    call: Call
    tools: frozenset[str]
    knows: Mapping[str, Any]

    @property
    def both(self) -> str:
        return f"{self.what}; {self.step}"

    def leaves(self) -> Iterator[tuple[Path, Any]]:
        yield from leaves(self.call.arguments) if self.call.arguments else ()

    def words(self) -> list[str]:
        """Returns the words in quotes; one of them is wrong."""
        return [found[1] or found[2] for found in QUOTED.finditer(self.what)]

    def place(self) -> Path | None:
        """Returns where the arguments hold what is wrong: an argument that is named, or a word of it."""
        leaves = list(self.leaves())
        for word in self.words():
            for path, value in leaves:
                if str(value).strip() == word:
                    return path
        for word in self.words():
            for path, value in leaves:
                if path[-1] == word or word in str(value):
                    return path
        for path, _ in self.leaves():
            if re.search(rf"\b{re.escape(name(path))}\b", self.what):
                return path
        field = re.match(r"(?:field )?([a-z_]+)", self.what)
        if field is not None and field[1] in self.call.arguments:
            return (field[1],)
        for path, value in self.leaves():  # such as `sma` in sma(0), or -5 of what is out of range
            if any(part in self.what.split() for part in re.findall(r"[\w.-]+", str(value)) if part):
                return path
        stems = [name for name in self.call.arguments if name.rstrip("s") in self.what]
        return (stems[0],) if stems else None

    def put(self, place: Path, value: Any) -> Call:
        return Call(self.call.tool, put(self.call.arguments, place, value))


def _meant(refused: _Refused) -> Advice:
    """Did you mean X? Then X stands where the wrong word stood."""
    meant = re.search(
        r"did you mean '?([^\s'?;,]+(?: [^\s'?;,]+)*?)'?(?: or [^;?]+)?[?;]", refused.step + ";"
    )
    if meant is None:
        return None
    right = meant[1]
    if right in refused.tools:
        return Call(right, refused.call.arguments)
    words = refused.words()
    for path, _ in refused.leaves():
        for depth in range(len(path)):
            if path[depth] in words and not any(str(value) in words for _, value in refused.leaves()):
                return Call(refused.call.tool, renamed(refused.call.arguments, path[: depth + 1], right))
    place = refused.place()
    if place is None:
        return None
    value = at(refused.call.arguments, place)
    word = next((word for word in words if isinstance(value, str) and word in value), None)
    return refused.put(place, value.replace(word, right) if word else right)


def _dropped(refused: _Refused) -> Advice:
    """It takes no such argument, or is to be left out."""
    if "takes no arguments" in refused.step:
        return Call(refused.call.tool, {})
    names = re.findall(r"takes no ([a-z_]+)|has no argument '(\w+)'", refused.what)
    names = [one or other for one, other in names]
    out = re.search(r"leave ((?:[\w]+(?:, | and )?)+) out", refused.step)
    if out is not None:
        names += re.split(r", | and ", out[1])
    given = [name for name in names if name in refused.call.arguments]
    if given:
        kept = {name: value for name, value in refused.call.arguments.items() if name not in given}
        instead = re.search(r"with type (\w+)", refused.step)
        return Call(refused.call.tool, kept | ({"type": instead[1]} if instead else {}))
    inner = next((path for path, _ in refused.leaves() if path[-1] in names), None)
    if inner is None:
        return None
    return Call(refused.call.tool, without(refused.call.arguments, inner))


def _needed(refused: _Refused) -> Advice:
    """An argument is missing, or one of several is to be given."""
    missing = re.search(r"field (\w+) is missing|needs (\w+)", refused.what)
    if missing is not None:
        name = missing[1] or missing[2]
        if name in refused.knows:
            return refused.put((name,), refused.knows[name])
        source = next((tool for tool in sorted(refused.tools) if tool in refused.step), None)
        return Ask(source, (name,)) if source else _shown(refused, (name,))
    if "exactly one" in refused.step:
        names = [
            name
            for name in re.findall(r"\w+", refused.what)
            if name in {*refused.knows, *refused.call.arguments}
        ]
        given = [name for name in names if name in refused.call.arguments]
        if len(given) > 1:
            kept = {name: value for name, value in refused.call.arguments.items() if name not in given[1:]}
            return Call(refused.call.tool, kept)
        return refused.put((names[0],), refused.knows[names[0]]) if names else None
    return None


def _person(refused: _Refused) -> Advice:
    """Only a person goes on from here."""
    return Stop(refused.step) if PERSON.search(refused.step) else None


def _listed(refused: _Refused) -> Advice:
    """One of a list is right."""
    listed = re.search(r"(?:use one of|choose from):? ([^;(]+)|[Ii]nput should be ('[^;]+')", refused.both)
    place = refused.place()
    if listed is None or place is None:
        return None
    options = re.findall(r"[\w.\-/]+", listed[1] or listed[2])
    if not options or options[0] == "the":  # such as "the 99", which are too many to list
        return None
    value = at(refused.call.arguments, place)
    word = next((word for word in refused.words() if isinstance(value, str) and word in value), None)
    return refused.put(place, value.replace(word, options[0]) if word else options[0])


def _swapped(refused: _Refused) -> Advice:
    """Two arguments stand in each other's place."""
    given = refused.call.arguments
    if "swap" not in refused.step or not {"start", "end"} <= given.keys():
        return None
    return Call(refused.call.tool, given | {"start": given["end"], "end": given["start"]})


def _asked(refused: _Refused) -> Advice:
    """Another tool knows."""
    named = [tool for tool in re.findall(r"[a-z]+_[a-z_]+", refused.step) if tool in refused.tools]
    place = refused.place()
    if not named or place is None:
        return None
    if "look at" in refused.step:  # nothing to repeat: it is there already
        return Stop(refused.step)
    return Ask(named[0], place, wait="wait for it with" in refused.step)


def _shaped(refused: _Refused) -> Advice:
    """The value has the wrong type, or is too fine."""
    place = refused.place()
    if place is None:
        return None
    value = at(refused.call.arguments, place)
    tick = re.search(r"multiple of the ([\d.]+) tick|finer than (1e-\d+)", refused.what)
    if tick is not None:
        step = Decimal(tick[1] or tick[2])
        return refused.put(place, f"{max(step, (Decimal(str(value)) // step) * step):f}")
    if isinstance(value, bool) and (shown := re.search(r"decimal string such as '([^']+)'", refused.what)):
        return refused.put(place, shown[1])
    if "valid list" in refused.what:
        return refused.put((str(place[0]),), [value])
    if "valid string" in refused.what or "as a JSON number" in refused.what:
        inner = [each for _, each in leaves(value)]
        plain = inner[0] if inner else "1"
        return refused.put((str(place[0]),), "1" if isinstance(plain, bool) else str(plain))
    if "valid integer" in refused.what or "valid number" in refused.what or "a valid decimal" in refused.what:
        found = NUMBER.search(str(value)) or NUMBER.search(refused.step.partition(":")[2])
        return refused.put(place, int(float(found[0].replace(",", ""))) if found else 1)
    return None


def _bounded(refused: _Refused) -> Advice:
    """A number, a length or a count is outside its bounds; the nearest inside is right."""
    place = refused.place()
    if place is None:
        return None
    for text in (refused.step, refused.what):
        low, high, above = _bounds(text)
        if low is None and high is None:
            continue
        value = at(refused.call.arguments, place)
        return refused.put(place, _within(value, low, high, above, refused.knows.get(name(place))))
    return None


def _written(refused: _Refused) -> Advice:
    """It shows how this very thing is written."""
    place = refused.place()
    return _shown(refused, place) if place is not None and "write it" in refused.step else None


def _likened(refused: _Refused) -> Advice:
    """It shows what such a thing looks like."""
    place = refused.place()
    return None if place is None else _shown(refused, place)


def _shown(refused: _Refused, place: Path) -> Advice:
    like = re.search(r"(?:write it like|such as|as in) (?:`([^`]+)`|'([^']+)'|([^\s,;]+))", refused.step)
    if like is None:
        return None
    shown = like[1] or like[2] or like[3].rstrip(".?")
    return refused.put(place, shown[:-1] if shown.count(")") > shown.count("(") else shown)


_RULES = (
    *(_meant, _dropped, _needed, _person, _listed, _swapped),
    *(_shaped, _asked, _written, _bounded, _likened),
)


def _bounds(text: str) -> tuple[Decimal | None, Decimal | None, bool]:
    """Returns the lowest and highest value of a text, and whether the lowest itself is too low."""
    number = rf"({NUMBER.pattern})"
    if pair := re.search(rf"{number} (?:to|and) {number}", text):
        return _decimal(pair[1]), _decimal(pair[2]), False
    low = re.search(rf"(at least|above|greater than(?: or equal to)?) {number}", text)
    high = re.search(rf"(?:at most|below|up to|less than(?: or equal to)?) {number}", text)
    return (
        _decimal(low[2]) if low else None,
        _decimal(high[1]) if high else None,
        low is not None and low[1] in ("above", "greater than"),
    )


def _within(value: Any, low: Decimal | None, high: Decimal | None, above: bool, known: Any) -> Any:
    least = low if low is not None else Decimal(0)
    if isinstance(value, list):
        several = cast("list[Any]", value or known or ["AAPL"])
        return several[: int(high)] if high is not None else several
    if isinstance(value, str) and not re.fullmatch(rf"{NUMBER.pattern}%?|NaN|Infinity", value):
        kept = value[: int(high) - 1] if high is not None else value
        return kept or "x" * max(1, int(least))
    number = Decimal(str(value).rstrip("%").replace(",", ""))
    if not number.is_finite() or number < least or (above and number == least):
        number = least + 1 if above else least
    if high is not None and number > high:
        number = high
    plain = f"{number:f}"
    return plain if isinstance(value, str) else float(plain) if "." in plain else int(plain)


def _decimal(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))
