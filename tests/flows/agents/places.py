"""Places: where in a call's arguments, which are JSON, a value stands."""

from collections.abc import Iterator
from typing import Any, cast

Path = tuple[str | int, ...]


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yields every value that holds no others, and its place; an empty list or object is one."""
    inner = _inner(value)
    if not inner:
        yield path, value
    for key, each in inner:
        yield from leaves(each, (*path, key))


def at(value: Any, path: Path) -> Any:
    """Returns what stands at a place; None where nothing does."""
    for part in path:
        value = dict(_inner(value)).get(part)
    return value


def put(value: Any, path: Path, new: Any) -> Any:
    """Returns a copy with another value at a place, which may be new."""
    if not path:
        return new
    held = dict(_inner(value))
    changed = held | {path[0]: put(held.get(path[0]), path[1:], new)}
    return list(changed.values()) if isinstance(value, list) else changed


def without(value: Any, path: Path) -> Any:
    """Returns a copy that lacks what stands at a place."""
    kept = dict(_inner(value))
    if len(path) == 1:
        del kept[path[0]]
    else:
        kept[path[0]] = without(kept[path[0]], path[1:])
    return list(kept.values()) if isinstance(value, list) else kept


def renamed(value: Any, path: Path, right: str) -> Any:
    """Returns a copy in which the key that ends a place is another, at the same place in its order."""
    kept = _inner(value)
    if len(path) > 1:
        return put(value, path[:1], renamed(at(value, path[:1]), path[1:], right))
    return {right if (key,) == path else key: each for key, each in kept}


def name(path: Path) -> str:
    """Returns the innermost name of a place; the numbers of a list's values have none."""
    return next((part for part in reversed(path) if isinstance(part, str)), "")


def _inner(value: Any) -> list[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return list(cast("dict[str | int, Any]", value).items())
    return list(enumerate(cast("list[Any]", value))) if isinstance(value, list) else []
