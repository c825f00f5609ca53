"""The tool manifest: what agents are told about the tools, and its digest on the record.

Who changes a tool's description after people looked at it ("rug pull") leaves a new `tools.manifest`
entry with another digest, which names the tools that changed.
"""

import functools
import hashlib
import sqlite3
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import orjson
import structlog
from pydantic import JsonValue

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store

if TYPE_CHECKING:
    from neural_trader_server.app import Services
    from neural_trader_server.endpoint import Endpoint

log = structlog.get_logger(__name__)


def digest_tools(tools: Iterable[Mapping[str, Any]], instructions: str) -> tuple[str, dict[str, str]]:
    """Returns the SHA-256 of the whole manifest, and a short one of each tool, in hex.

    Args:
        tools: As `tools/list` says them: name, title, description, schemas, annotations.
        instructions: What the server tells every agent.
    """
    each = {str(tool["name"]): hashlib.sha256(_canonical(tool)).hexdigest()[:16] for tool in tools}
    whole = {"instructions": instructions, "tools": sorted(tools, key=lambda tool: str(tool["name"]))}
    return hashlib.sha256(_canonical(whole)).hexdigest(), dict(sorted(each.items()))


async def record_tools(server: "Endpoint", services: "Services") -> str:
    """Logs what a server tells agents about its tools, if that is new; returns its digest."""
    gate = server.gate
    listed = [tool for tool in await server.list_tools() if gate.serves(tool.name)]
    return await anyio.to_thread.run_sync(
        functools.partial(
            record_manifest,
            services.store,
            services.person,
            [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed],
            instructions=server.instructions or "",
            toolsets=gate.toolsets,
            read_only=gate.read_only,
        )
    )


def record_manifest(
    store: Store,
    caller: Caller,
    tools: Iterable[Mapping[str, Any]],
    *,
    instructions: str,
    toolsets: tuple[str, ...],
    read_only: bool,
) -> str:
    """Logs the manifest if it differs from the one that the same choice of tools had last.

    Returns:
        The manifest's digest.
    """
    tools = list(tools)
    digest, each = digest_tools(tools, instructions)
    with store.unit() as unit:
        before = _last(unit.connection, sorted(toolsets), read_only)
        if before is None or before.get("tools_digest") != digest:
            known = before.get("tools") if before is not None else None
            old = known if isinstance(known, dict) else {}
            changed = sorted(name for name in each.keys() | old.keys() if each.get(name) != old.get(name))
            payload: dict[str, JsonValue] = {
                "tools_digest": digest,
                "toolsets": list[JsonValue](sorted(toolsets)),
                "read_only": read_only,
                "tools": dict[str, JsonValue](each),
                "replaces": None if before is None else before.get("tools_digest"),
                "changed": list[JsonValue](changed if before is not None else []),
            }
            unit.append(AuditEntry.by(caller, EntryType.TOOLS_MANIFEST, payload=payload))
            if before is not None:
                log.warning("tools_changed", tools_digest=digest, changed=changed)
    return digest


def _last(
    connection: sqlite3.Connection, toolsets: list[str], read_only: bool
) -> dict[str, JsonValue] | None:
    rows = connection.execute(
        "SELECT seq FROM audit_entries WHERE type = ? ORDER BY seq DESC", (EntryType.TOOLS_MANIFEST.value,)
    ).fetchall()
    for (seq,) in rows:
        payload = read_entry(connection, int(seq)).payload
        if payload.get("toolsets") == toolsets and payload.get("read_only") == read_only:
            return payload
    return None


def _canonical(value: object) -> bytes:
    # Schemas hold floats (defaults), which the log's own canonical form refuses: only the digest is logged.
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
