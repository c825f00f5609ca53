"""Freshness: how long a client may keep what it was told, as 2026-07-28 lets a server say (`ttlMs`).

Lists change when an operator changes the server or a role; pages that come with this version, never; the
report of a run that has ended, never again. All else is of the moment: orders, prices, the policy, the log.
All of it is `private`: what one caller may read, another may not.
"""

from typing import Any, Final

import orjson
from mcp.server import CacheHint
from mcp.server.context import HandlerResult
from mcp_types.methods import CacheableMethod

LIST_MS: Final = 300_000
WITH_VERSION_MS: Final = 3_600_000
ENDED_MS: Final = 86_400_000

LISTS: Final[dict[CacheableMethod, CacheHint]] = {
    "tools/list": CacheHint(ttl_ms=LIST_MS, scope="private"),
    "resources/list": CacheHint(ttl_ms=LIST_MS, scope="private"),
    "resources/templates/list": CacheHint(ttl_ms=LIST_MS, scope="private"),
    "prompts/list": CacheHint(ttl_ms=LIST_MS, scope="private"),
    "server/discover": CacheHint(ttl_ms=LIST_MS, scope="private"),
}

_ENDED: Final = {"bt": {"completed", "failed", "canceled", "interrupted"}, "sw": {"completed"}}
"""By the kind of run: a sweep that did not complete can be resumed."""


def hint(uri: str, result: HandlerResult) -> None:
    """Writes into the result of a read, in its wire form, how long it may be kept; what says it, stays.

    Args:
        uri: What was read.
        result: As it leaves; of the older protocol nothing is kept.
    """
    if isinstance(result, dict) and "ttlMs" in result:
        result["ttlMs"] = result["ttlMs"] or _kept_ms(uri, result)


def _kept_ms(uri: str, result: dict[str, Any]) -> int:
    if uri == "strategy://api" or uri.startswith("ui://neural-trader/"):
        return WITH_VERSION_MS
    if uri.startswith("backtest://"):
        return ENDED_MS if _has_ended(result) else 0
    return 0


def _has_ended(result: dict[str, Any]) -> bool:
    try:
        [contents] = result["contents"]
        report = orjson.loads(contents["text"])
        return report["state"] in _ENDED.get(str(report["run_id"]).partition("-")[0], ())
    except (KeyError, TypeError, ValueError):  # it is no report that we know
        return False
