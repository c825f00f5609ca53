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
