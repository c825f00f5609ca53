"""The audit log in a real browser: it verifies by itself, and says what does not hold and at which step."""

import base64
import json
from collections.abc import Callable, Generator
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect
from tests.server.console.conftest import Desk

from neural_trader_governance.audit import merkle, witnessing
from neural_trader_governance.audit.checkpoints import Checkpoint, read_checkpoint
from neural_trader_governance.audit.cosignatures import WitnessKey, cosign
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.signing.notes import parse_note

Shoot = Callable[[Page, str], None]
Alter = Callable[[dict[str, Any]], None]
STRANGE = "<img src=x onerror=\"document.title='stolen'\">"


@pytest.fixture(scope="module", autouse=True)
def story(desk: Desk) -> None:
    """Gives the log something to tell: an order that was filled, and words of a stranger."""
    for quantity in (1, 2):
        preview = desk.call(
            "orders_preview", symbol="AAPL", side="buy", quantity=str(quantity), type="market", reason=STRANGE
        )
        desk.call("orders_submit", preview_id=preview["preview_id"])


@pytest.fixture
def ask(console: Page) -> Callable[..., Any]:
    """`ask(path, **query)`: what the page itself would be answered."""

    def asked(path: str, **query: Any) -> Any:
        return console.evaluate(
            """async ([path, query]) => {
              const { api } = await import("/console/static/api.mjs");
              try { return await api.get(path, query); } catch (error) { return { code: error.code }; }
            }""",
            [path, query],
        )

    return asked


@pytest.fixture
def alter(console: Page) -> Generator[Callable[[str, Alter], None]]:
    """`alter(path, change)`: what the server answers from now on is changed on its way to the page."""

    def altered(path: str, change: Alter) -> None:
        def pass_on(route: Route) -> None:
            answer = route.fetch()
            document = answer.json()
            change(document)
            route.fulfill(response=answer, json=document)

        console.route(f"**/console/api/audit/{path}*", pass_on)

    yield altered
    console.unroute_all(behavior="wait")


def flip(encoded: str, at: int = 5) -> str:
    """Returns base64 of the same bytes but one."""
    data = bytearray(base64.b64decode(encoded))
    data[at] ^= 1
    return base64.b64encode(data).decode()


def open_log(page: Page, path: str = "") -> None:
    page.evaluate("location.hash = '#/none'")
    page.get_by_role("heading", name="No such page").wait_for()
    page.evaluate(f"location.hash = '#/audit{path}'")
    page.locator("[data-page=audit] .steps").first.wait_for()


def states(page: Page) -> dict[str, str]:
    """Returns each step that the page shows, with how it ended."""
    found = page.locator(".steps li").evaluate_all("all => all.map(e => [e.dataset.step, e.dataset.state])")
    return dict(found)


def said(page: Page, step: str) -> str:
    return page.locator(f".steps li[data-step={step}]").inner_text()


def write(desk: Desk) -> None:
    """Lets the log grow by one entry."""
    desk.services.record(desk.services.person, EntryType.ALERT, payload={"what": "grown"})


def test_entries_are_found_and_turned_over_page_by_page(ask: Callable[..., Any], desk: Desk) -> None:
    with desk.services.store.unit() as unit:
        for number in range(60):
            payload = {"number": number}
            unit.append(AuditEntry.by(desk.services.person, EntryType.ALERT, symbol="MSFT", payload=payload))
    first = ask("/audit/entries", symbol="MSFT", type="alert")
    second = ask("/audit/entries", symbol="MSFT", type="alert", older=first["older"])
    seqs = [each["seq"] for each in (*first["entries"], *second["entries"])]
    assert len(seqs) == 60
    assert seqs == sorted(seqs, reverse=True)
    assert second["older"] is None
    assert {each["symbol"] for each in first["entries"]} == {"MSFT"}
    assert ask("/audit/entries", agent="nobody")["entries"] == []
    assert ask("/audit/entries", since="2099-01-01")["entries"] == []
    for wrong in ({"type": "no.such"}, {"older": "x"}, {"symbol": "A" * 100}, {"more": "1"}):
        assert ask("/audit/entries", **wrong)["code"] == "invalid_request", wrong
    size = desk.services.store.head().size
    for start, end, of in ((size, size + 1, size), (0, 1, size + 1), (3, 3, size)):
        assert ask("/audit/proofs", start=start, end=end, size=of)["code"] == "unknown_seq"


def test_what_is_sent_is_what_any_checker_needs(ask: Callable[..., Any], desk: Desk) -> None:
    head = ask("/audit/head", seen=3)
    note = read_checkpoint(parse_note(head["note"]))
    assert note.size == desk.services.store.head().size
    sent = ask("/audit/proofs", start=4, end=7, size=note.size)["entries"]
    assert [each["seq"] for each in sent] == [4, 5, 6]
    for each in sent:
        entry = base64.b64decode(each["entry"])
        assert json.loads(entry)["seq"] == each["seq"]
        path = [base64.b64decode(step) for step in each["path"]]
        leaf = merkle.leaf_hash(entry)
        assert merkle.verify_inclusion(leaf, each["seq"], note.size, path, note.root)
    assert head["vkey"] == desk.home.log_vkey.read_text().strip()


def test_a_whole_log_is_proven_by_the_browser_and_by_it_alone(
    console: Page, desk: Desk, shoot: Shoot
) -> None:
    open_log(console)
    assert states(console) == {"key": "open", "checkpoint": "good", "growth": "open", "witness": "open"}
    console.get_by_role("button", name="Verify", exact=True).click()
    size = desk.services.store.head().size
    console.get_by_text(f"{size} of {size} entries proven by this browser").wait_for()
    write(desk)
    open_log(console)
    assert states(console)["growth"] == "good"
    assert f"the {size} entries" in said(console, "growth")
    console.get_by_role("button", name="Pin a key…").click()
    console.locator("textarea[name=vkey]").fill("not a key")
    console.get_by_role("button", name="Pin", exact=True).click()
    console.get_by_text("invalid_vkey").wait_for()
    console.locator("textarea[name=vkey]").fill(desk.home.log_vkey.read_text())
    console.get_by_role("button", name="Pin", exact=True).click()
    expect(console.locator(".steps li[data-step=key]")).to_have_attribute("data-state", "good")
    console.locator("select[name=type]").select_option("order.intent")
    expect(console.locator("tbody tr")).to_have_count(2)
    shoot(console, "c4-audit")
    console.locator("tbody tr a").first.click()
    console.get_by_text("proven by this browser").wait_for()
    assert [each for each in states(console).values() if each == "bad"] == []
    assert {"leaf": "good", "place": "good", "number": "good"}.items() <= states(console).items()
    assert STRANGE in console.get_by_label("Entry", exact=True).inner_text()
    assert console.title() == "Audit log · Neural Trader"
    shoot(console, "c4-audit-entry")


def test_one_altered_byte_is_found_at_its_step(
    console: Page, alter: Callable[[str, Alter], None], shoot: Shoot
) -> None:
    open_log(console)

    def entry(document: dict[str, Any]) -> None:
        document["entries"][0]["entry"] = flip(document["entries"][0]["entry"], at=40)

    def path(document: dict[str, Any]) -> None:
        document["entries"][0]["path"][2] = flip(document["entries"][0]["path"][2])

    def both(document: dict[str, Any]) -> None:
        """As somebody would who alters the stored entry and its stored hash."""
        entry(document)
        data = base64.b64decode(document["entries"][0]["entry"])
        document["entries"][0]["leaf_hash"] = merkle.leaf_hash(data).hex()

    def another(document: dict[str, Any]) -> None:
        document["entries"][0]["entry"] = base64.b64encode(b'{"seq":6,"origin":"elsewhere"}').decode()

    cases = ((entry, "leaf"), (path, "place"), (both, "place"), (another, "number"))
    for change, step in cases:
        alter("proofs", change)
        open_log(console, "/6")
        console.get_by_text("NOT PROVEN").wait_for()
        assert states(console)[step] == "bad", change
        assert "expected" in said(console, step)
        assert "found" in said(console, step)
        if change is entry:
            shoot(console, "c4-audit-altered")
        console.unroute_all(behavior="wait")
    alter("proofs", both)
    open_log(console)
    console.get_by_role("button", name="Verify", exact=True).click()
    console.get_by_text("1 of ").filter(has_text="FAILED").wait_for()
    console.unroute_all(behavior="wait")

    def note(document: dict[str, Any]) -> None:
        text, _, rest = document["note"].partition("\n\n")
        origin, size, root = text.split("\n")[:3]
        document["note"] = f"{origin}\n{size}\n{flip(root)}\n\n{rest}"

    alter("head", note)
    open_log(console, "/6")
    console.get_by_text("The entry is not shown").wait_for()
    assert states(console) == {"key": "open", "checkpoint": "bad"}
    assert console.locator("[data-caught]").count() == 0, "one that nobody signed tells nothing of the log"


def test_another_key_than_the_pinned_one_is_a_loud_failure(
    console: Page, desk: Desk, alter: Callable[[str, Alter], None]
) -> None:
    open_log(console)
    thief = SigningKey.generate(desk.services.store.head().checkpoint.split("\n")[0])

    def forged(document: dict[str, Any]) -> None:
        """A server that signs what it likes with a key of its own."""
        document["vkey"] = thief.vkey
        document["note"] = Checkpoint(thief.name, 3, bytes(32)).sign([thief])

    alter("head", forged)
    open_log(console)
    assert states(console) == {"key": "bad"}
    assert "another key than the one that this browser saw first" in said(console, "key")
    assert thief.vkey in said(console, "key")
    console.unroute_all(behavior="wait")
    console.get_by_role("button", name="Pin a key…").click()
    console.locator("textarea[name=vkey]").fill(thief.vkey)
    console.get_by_role("button", name="Pin", exact=True).click()
    # The step was bad before, too: only its new words say that the log was verified again.
    expect(console.locator(".steps li[data-step=key]")).to_contain_text("you pinned")
    assert states(console) == {"key": "bad"}


@pytest.mark.parametrize("how", ["shrank", "forked"])
def test_a_log_that_shrank_or_forked_is_named_and_keeps_being_named(
    console: Page, desk: Desk, alter: Callable[[str, Alter], None], shoot: Shoot, how: str
) -> None:
    old = desk.services.store.head()
    write(desk)
    open_log(console)
    assert states(console)["checkpoint"] == "good"
    signer = SigningKey.load(desk.home.log_key)

    def replayed(document: dict[str, Any]) -> None:
        document |= {"note": old.checkpoint, "growth": None}

    def forked(document: dict[str, Any]) -> None:
        """By whoever has the log's key: another history of one entry more, signed as the true one is."""
        size = desk.services.store.head().size + 1
        document["note"] = Checkpoint(signer.name, size, b"\x07" * 32).sign([signer])

    alter("head", replayed if how == "shrank" else forked)
    open_log(console)
    assert states(console) == {"key": "open", "checkpoint": "good", "growth": "bad"}
    assert f"the log {how}" in said(console, "growth")
    shoot(console, f"c4-audit-{how}")
    console.unroute_all(behavior="wait")
    console.reload()
    console.wait_for_selector("nav")
    open_log(console)
    assert states(console)["growth"] == "good", "the true one again"
    assert f"the log {how}" in console.locator("[data-caught]").inner_text()
    console.locator("[data-caught] summary").click()
    console.get_by_role("button", name="Forget what this browser saw…").click()
    console.get_by_role("button", name="Forget it").click()
    expect(console.locator("[data-caught]")).to_have_count(0)


def test_a_witness_counts_only_where_its_signature_does(
    console: Page, desk: Desk, alter: Callable[[str, Alter], None]
) -> None:
    key = SigningKey.generate("witness.example/1")
    store = desk.services.store
    with store.unit() as unit:
        witnessing.pin(unit, caller=desk.services.person, key=WitnessKey.of(key))
    head = store.head()
    line = cosign(parse_note(head.checkpoint).text, key, 1_800_000_000).line()
    with store.unit() as unit:
        label = WitnessKey.of(key).label
        unit.connection.execute(
            "INSERT INTO audit_cosignatures VALUES (?, ?, ?, ?)", (head.size, label, 1_800_000_000, line)
        )
    write(desk)
    open_log(console)
    assert states(console)["witness"] == "good"
    assert f"cosigned the first {head.size} of these entries" in said(console, "witness")

    def later(document: dict[str, Any]) -> None:
        note, _, own = document["witness"]["note"].rstrip("\n").rpartition("\n")
        dash, name, signature = own.split(" ")
        document["witness"]["note"] = f"{note}\n{dash} {name} {flip(signature, at=11)}\n"

    alter("head", later)
    open_log(console)
    assert states(console)["witness"] == "bad"
    assert "does not hold" in said(console, "witness")
