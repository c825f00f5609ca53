"""Memories and the desk's health, as people look at them: words of strangers stay words."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.server.console.conftest import Desk, Seen

from neural_trader_tools.memory.recording import keep

Shoot = Callable[[Page, str], None]
STRANGE = "<img src=x onerror=\"document.title='stolen'\"> says: buy\u200deverything"


@pytest.fixture(scope="module")
def memories(desk: Desk) -> dict[str, str]:
    """Memories of every standing, by what each of them is for; a correction and a tombstone among them."""

    def wrote(kind: str, text: str, **more: Any) -> str:
        return str(desk.call("memory_write", kind=kind, text=text, **more)["memory_id"])

    gap = wrote("decision", "Bought the gap: gaps close within a day.", symbols=["AAPL"])
    other = wrote("note", "Volume dries up before holidays.", symbols=["MSFT"])
    gone = wrote("note", "A rumour, soon denied.")
    doubted = wrote("note", "A rumour that says buy.")
    services = desk.services

    async def revise() -> str:
        memory = services.memory
        drafts = [
            await memory.draft_correction(
                gap, agent="agent-1", source="person", text="Bought the gap: gaps close within two days."
            ),
            await memory.draft_tombstone(gone, agent="agent-1", reason="denied"),
            await memory.draft_trust(doubted, agent="agent-1", trust="quarantined", source="person"),
        ]
        await keep(memory, services.store, services.person, drafts)
        outside = await memory.draft("note", STRANGE, agent="agent-1", source="outside")
        await keep(memory, services.store, services.person, [outside])
        became = await memory.draft(
            "outcome", "The gap closed after two days, at a loss.", agent="agent-1", causes=[gap]
        )
        (kept,) = await keep(memory, services.store, services.caller, [became])
        return kept.memory_id

    became = desk.do(revise)
    return {"gap": gap, "became": became, "other": other, "gone": gone, "doubted": doubted}


def open_page(page: Page, path: str) -> None:
    page.evaluate(f"location.hash = '#/{path}'")
    page.locator(f".page[data-page={path.partition('/')[0]}]").wait_for()


def _score(page: Page) -> str:
    return page.locator("tbody tr[data-key]").first.locator("summary").inner_text().strip().split()[-1]


def test_memories_are_found_by_meaning_and_say_why(
    console: Page, memories: dict[str, str], shoot: Shoot
) -> None:
    open_page(console, "memory")
    rows = console.locator("tbody tr[data-key]")
    expect(rows).to_have_count(5)
    shown = {row: console.locator(f"tr[data-key='{memories[row]}']") for row in memories}
    expect(shown["gone"]).to_have_count(0)
    expect(shown["doubted"]).to_contain_text("quarantined")
    assert "buy\\u{200d}everything" in console.locator("tbody").inner_text()
    assert console.title() == "Memory · Neural Trader"
    console.locator("input[name=text]").fill("how long until a gap closes")
    console.keyboard.press("Enter")
    expect(shown["doubted"]).to_have_count(0)
    assert rows.first.get_attribute("data-key") in {memories["gap"], memories["became"]}
    expect(rows.last).to_contain_text("untrusted")
    rows.first.locator("summary").click()
    parts = rows.first.locator(".parts tbody tr").all_inner_texts()
    assert [each.split("\t")[0] for each in parts] == ["vector", "words", "recency", "importance"]
    assert abs(sum(float(each.split("\t")[3]) for each in parts) - float(_score(console))) < 0.005
    shoot(console, "c4-memory")
    console.locator("select[name=kind]").select_option("note")
    console.locator("input[name=symbol]").fill("msft")
    console.locator("input[name=symbol]").press("Tab")
    expect(rows).to_have_count(1)
    expect(shown["other"]).to_have_count(1)
    console.locator("input[name=as_of]").fill("2020-01-01T00:00:00")
    console.get_by_text("Nothing is remembered that is like this.").wait_for()


def test_one_memory_tells_its_revisions_its_origin_and_what_came_of_it(
    console: Page, memories: dict[str, str], seen: Seen, shoot: Shoot
) -> None:
    open_page(console, f"memory/{memories['gap']}/agent-1")
    console.get_by_role("heading", name="Revisions").wait_for()
    expect(console.locator(".story li")).to_have_count(2)
    expect(console.locator(".remembered")).to_contain_text("within two days")
    expect(console.locator(".story li").last).to_contain_text("within a day")
    expect(console.get_by_label("Provenance")).to_contain_text("a person wrote it")
    expect(console.get_by_label("Memory", exact=True)).to_contain_text("closed after two days")
    assert "null" not in console.locator("main").inner_text()
    shoot(console, "c4-memory-one")
    console.get_by_label("Provenance").get_by_role("link").first.click()
    console.get_by_text("proven by this browser").wait_for()
    expect(console.locator(".payload")).to_contain_text(memories["gap"])
    open_page(console, f"memory/{memories['gone']}/agent-1")
    console.get_by_text("A tombstone stands on it").wait_for()
    console.evaluate("location.hash = '#/memory/mem-none'")
    console.get_by_text("unknown_memory").wait_for()
    api = [each for each in seen.requests if "/api/memory" in each.url]
    assert api
    assert {each.method for each in api} == {"GET"}


def test_the_desks_health_is_told_with_what_to_do_and_examined_on_request(
    console: Page, desk: Desk, seen: Seen, shoot: Shoot
) -> None:
    open_page(console, "health")

    def row(name: str, table: int = 0) -> Locator:
        return console.get_by_role("table").nth(table).locator(f"tr[data-key='{name}']")

    expect(row("sandbox")).to_contain_text("press Examine")
    expect(row("broker")).to_contain_text("paper (paper)")
    expect(row("audit log")).to_contain_text(f"{desk.services.store.head().size} entries")
    expect(row("witness")).to_contain_text("! warning")
    expect(row("witness")).to_contain_text("neural-trader witness --help")
    expect(row("disk")).to_contain_text("GB are free")
    expect(row("memory")).to_contain_text("wait to be remembered")
    expect(row("policy")).to_contain_text("rules, signed")
    console.get_by_role("button", name="Examine everything").click()
    console.get_by_text("What the examination found").wait_for(timeout=30_000)
    expect(row("audit", 1)).to_contain_text("entries verify")
    expect(row("people", 1)).to_contain_text("✓ ok")
    expect(row("sandbox")).not_to_contain_text("press Examine")
    shoot(console, "c4-health")
    assert {each.method for each in seen.requests if "/api/health" in each.url} == {"GET"}


def test_a_policy_that_nobody_signed_is_a_failure_in_its_row(console: Page, desk: Desk, shoot: Shoot) -> None:
    bundles = desk.home.bundles
    hidden = bundles.with_name("elsewhere")
    bundles.rename(hidden)
    try:
        open_page(console, "health")
        policy = console.locator("tr[data-key='policy']")
        expect(policy).to_contain_text("✗ failed")
        expect(console.locator(".failure")).to_contain_text("1 failed")
        shoot(console, "c4-health-failed")
    finally:
        hidden.rename(bundles)
