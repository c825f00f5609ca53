"""`neural-trader memory`: a memory found, explained, corrected, doubted, forgotten, moved, verified."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings

Here = Callable[..., Any]


def remember(home: Home, *texts: str) -> list[str]:
    """Has this home's agent write notes; returns their ids."""

    async def write() -> list[str]:
        services = Services(home, Settings(), WallClock())
        try:
            answers = [await services.call("memory_write", kind="note", text=text) for text in texts]
        finally:
            await services.aclose()
        return [answer["memory_id"] for answer in answers]

    return anyio.run(write)


def test_a_memorys_life_at_the_command_line(home: Home, here: Here, tmp_path: Path) -> None:
    def told(*words: str) -> Any:
        ended = here("memory", *words, "--json")
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    gap, rumour = remember(home, "Gaps close within a day.", "A rumour says buy.")
    found = told("search", "do gaps close", "--explain")
    assert found["hits"][0]["memory_id"] == gap
    why = next(each for each in found["explanations"] if each["memory_id"] == gap)
    assert sum(part["adds"] for part in why["parts"]) - found["hits"][0]["score"] < 1e-3
    assert {part["name"] for part in why["parts"]} == {"vector", "words", "recency", "importance"}
    assert {each["memory_id"] for each in told("list")["hits"]} == {gap, rumour}

    corrected = told("correct", gap, "Gaps close within two days.")
    assert (corrected["rev"], corrected["trust"]) == (2, "verified")
    assert told("trust", rumour, "quarantined")["trust"] == "quarantined"
    assert [each["text"] for each in told("search", "rumour")["hits"]] == ["Gaps close within two days."]
    assert told("show", gap)["revisions"][0]["text"] == "Gaps close within a day."

    assert told("export", "all.jsonl", "--history")["rows"] == 4
    printed = here("memory", "export")
    assert [json.loads(line)["rev"] for line in printed.stdout.splitlines()] == [2, 2]
    moved = told("import", "all.jsonl", "--origin", "our own desk", "--agent", "other")
    assert (moved["imported"], moved["skipped"]) == (2, 2)
    assert {each["trust"] for each in told("list", "--agent", "other")["hits"]} == {"untrusted"}

    assert told("forget", gap, "--reason", "it is not so")["state"] == "forgotten"
    assert told("search", "gaps")["hits"] == []
    assert told("verify")["ok"] is True
    done = told("reindex")
    assert (done["rows"], done["embedded"]) == (7, 0)


def test_what_is_refused_says_why(home: Home, here: Here) -> None:
    for words, code in (
        (("show", "mem-0"), "unknown_memory"),
        (("forget", "mem-0", "--reason", "x"), "unknown_memory"),
        (("import", "none.jsonl", "--origin", "x"), "file_unreadable"),
        (("export", "m.csv"), "unknown_format"),
        (("search", "x", "--regime-of", "NOPE"), "unknown_symbol"),
    ):
        ended = here("memory", *words)
        assert (ended.returncode, code in ended.stderr) == (1, True), ended.stderr
    assert home.memory.parent.exists()


def test_a_memory_that_the_log_misses_fails_the_check(home: Home, here: Here) -> None:
    async def smuggle() -> None:
        services = Services(home, Settings(), WallClock())
        try:
            await services.memory.write("note", "by the back door", agent="agent-1")
        finally:
            await services.aclose()

    anyio.run(smuggle)
    ended = here("memory", "verify")
    assert ended.returncode == 1
    assert "unaudited_row" in ended.stdout
