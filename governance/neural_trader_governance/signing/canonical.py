"""Canonical bytes: one JSON text for one value, so that a hash or a signature means something.

The subset is chosen so that orjson with sorted keys equals RFC 8785 (JCS): no floats, integers
within ±(2^53 - 1), ASCII keys. `rfc8785` is the oracle in the tests.
"""

from typing import cast

import orjson
from pydantic import BaseModel

from neural_trader_governance.errors import InputError

INTEGER_MAX = 2**53 - 1
DEPTH_MAX = 32
_KEYS: set[type] = {str}
_TEXTS: set[type] = {str, bool, type(None)}
_KINDS: set[type] = _TEXTS | {int, dict, list}


def canonical_bytes(value: object) -> bytes:
    """Returns the canonical JSON of a closed model or of plain JSON data.

    Args:
        value: A pydantic model (taken in its JSON form), or dicts, lists, strings, integers,
            booleans and None.

    Raises:
        InputError: a float, an integer beyond 2^53 - 1, a key that is not ASCII, text that is not
            Unicode scalar values, a foreign type, or nesting deeper than 32.
    """
    plain: object = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    if (data := plain_bytes(plain)) is not None:
        return data
    _check(plain, 0)
    try:
        return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise _refusal(f"the value has no canonical form ({error})") from None


def is_canonical(data: bytes) -> bool:
    """Says whether these bytes are exactly what `canonical_bytes` writes for the value they hold."""
    try:
        return canonical_bytes(orjson.loads(data)) == data
    except (InputError, orjson.JSONDecodeError):
        return False


def plain_bytes(value: object) -> bytes | None:
    """Returns the canonical JSON of plain JSON data, or None where only a closer look can tell.

    Every leaf of the log passes here: the same bytes as `canonical_bytes`, several times as fast.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS) if _is_plain(value, 0) else None
    except TypeError:
        return None


def _is_plain(value: object, depth: int) -> bool:
    # Types are collected in sets, by the interpreter's own loops.
    if type(value) is dict:
        pairs = cast("dict[object, object]", value)
        if not set(map(type, pairs)) <= _KEYS or not "".join(cast("dict[str, object]", pairs)).isascii():
            return False
        items, kinds = pairs.values(), set(map(type, pairs.values()))
    elif type(value) is list:
        items = cast("list[object]", value)
        kinds = set(map(type, items))
    else:
        return False
    if depth >= DEPTH_MAX or not kinds <= _KINDS:
        return False
    if kinds <= _TEXTS:
        return True
    for item in items:
        kind = type(item)
        if kind is int:
            if not -INTEGER_MAX <= cast(int, item) <= INTEGER_MAX:
                return False
        elif (kind is dict or kind is list) and not _is_plain(item, depth + 1):
            return False
    return True


def _check(value: object, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise _refusal(f"nesting is deeper than {DEPTH_MAX}")
    if value is None or type(value) is str or type(value) is bool:
        return
    if type(value) is int:
        if abs(value) > INTEGER_MAX:
            raise _refusal(f"the integer {value} lies beyond 2^53 - 1")
    elif type(value) is dict:
        for key, item in cast("dict[object, object]", value).items():
            if type(key) is not str or not key.isascii():
                raise _refusal(f"the key {key!r:.40} is not an ASCII string")
            _check(item, depth + 1)
    elif type(value) is list or type(value) is tuple:
        for item in cast("list[object]", value):
            _check(item, depth + 1)
    elif type(value) is float:
        raise _refusal(f"the float {value!r} has no exact form")
    else:
        raise _refusal(f"{type(value).__name__} is not a JSON type")


def _refusal(what: str) -> InputError:
    return InputError("not_canonical", what, "write decimals as strings and keep keys ASCII")
