"""Approvals in a real browser: signed there, checked by the desk; the key and its passphrase stay there."""

import base64
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect
from tests.server.console.conftest import Desk, Seen

from neural_trader_governance import taints
from neural_trader_governance.errors import NeuralTraderError
from neural_trader_governance.overrides import Override, grant
from neural_trader_governance.principals import Role, enroll, sign_enrolment
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.signing.locking import lock
from neural_trader_governance.untrusted.readings import Source

Shoot = Callable[[Page, str], None]
PASSPHRASE = "Trüffel correct horse"
SCRIPT = "<script>document.title='stolen'</script><img src=x onerror=\"document.title='stolen'\">"


@pytest.fixture(scope="module")
def locked_key(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The owner's approver key, locked, in a folder of the owner's."""
    path = tmp_path_factory.mktemp("owner") / "approver.key"
    plain = desk.home.approver_key.read_text()
    label = SigningKey.load(desk.home.approver_key).vkey
    # A cheap lock: that an expensive one opens, too, is shown by published vectors (test_proof.py).
    path.write_text(lock(plain.encode(), label=label, passphrase=PASSPHRASE, cost=2**12))
    return path


def ask(desk: Desk, quantity: int, reason: str) -> str:
    """Previews an order that needs a person, each time another one; returns its preview."""
    preview = desk.call("orders_preview", symbol="AAPL", side="buy", quantity=str(quantity), reason=reason)
    assert preview["verdict"]["decision"] == "needs_approval", preview
    return str(preview["preview_id"])


def card(console: Page, preview_id: str) -> Locator:
    console.evaluate("location.hash = '#/approvals'")
    return console.locator(f'[data-preview="{preview_id}"]')


def test_a_signature_made_in_the_browser_lets_the_order_through_and_the_key_stays_there(
    console: Page, desk: Desk, seen: Seen, locked_key: Path, starter: Any, shoot: Shoot
) -> None:
    preview_id = ask(desk, 25, "the 20-day average rose above the 100-day one")
    waiting = card(console, preview_id)
    expect(waiting).to_contain_text("10,761.75 USD")
    expect(waiting).to_contain_text("approval_notional")
    expect(waiting).to_contain_text("agent-1, the agent of owner")
    expect(waiting).to_contain_text("expires in 1")
    expect(console.locator(".count")).to_have_text("1")
    shoot(console, "c1-approvals")
    waiting.get_by_role("button", name="Approve…").click()
    console.locator("input[name=key]").set_input_files(locked_key)
    console.locator("input[name=passphrase]").fill("not the passphrase")
    console.get_by_role("button", name="Sign and approve").click()
    console.get_by_text("wrong_passphrase").wait_for()
    console.locator("input[name=passphrase]").fill(PASSPHRASE)
    shoot(console, "c1-approve")
    console.get_by_role("button", name="Sign and approve").click()
    console.get_by_text("Its agent may submit it until").wait_for()
    shoot(console, "c1-approved")
    order = desk.call("orders_submit", preview_id=preview_id)
    assert order["state"] == "filled", order

    console.evaluate("location.hash = '#/orders'")
    console.get_by_role("link", name="BUY 25 AAPL").wait_for()
    shoot(console, "c1-orders")
    console.get_by_role("link", name="BUY 25 AAPL").click()
    story = console.get_by_role("region", name="Story")
    for chapter in ("Policy judged it", "A person is asked", "A person approved", "Submitted", "Filled"):
        expect(story).to_contain_text(chapter)
    expect(console.get_by_role("region", name="Facts")).to_contain_text("played again, it gives this state")
    shoot(console, "c1-story")

    seed = base64.b64decode(desk.home.approver_key.read_text().strip().split("+", 4)[4])[1:]
    secrets = (
        PASSPHRASE,
        "not the passphrase",
        base64.b64encode(seed).decode()[2:40],
        base64.b64encode(b"\x01" + seed).decode()[:40],
        seed.hex(),
        locked_key.read_text()[-60:-10],
    )
    for request in seen.requests:
        said = f"{request.url}\n{request.post_data or ''}\n{request.headers}"
        assert not [each for each in secrets if each in said], request.url
    environment = {**os.environ, "NEURAL_TRADER_HOME": str(desk.home.path)}
    verified = starter.run("audit", "verify", "--json", environment=environment)
    assert verified.returncode == 0, verified.stderr


def test_a_key_that_is_not_the_persons_and_an_answer_that_comes_twice_are_refused_and_said(
    console: Page, desk: Desk, tmp_path: Path, seen: Seen, shoot: Shoot
) -> None:
    preview_id = ask(desk, 26, "another hand")
    stranger = SigningKey.generate("neural-trader.local/approver/mallory/00000000")
    stranger.save(tmp_path / "approver.key")
    card(console, preview_id).get_by_role("button", name="Approve…").click()
    console.locator("input[name=key]").set_input_files(tmp_path / "approver.key")
    console.get_by_role("button", name="Sign and approve").click()
    console.get_by_text("approver_key_mismatch").wait_for()
    shoot(console, "c1-wrong-key")
    console.keyboard.press("Escape")
    card(console, preview_id).get_by_role("button", name="Approve…").click()
    console.locator("input[name=key]").set_input_files(desk.home.approver_key)
    with console.expect_request("**/accept") as sent:
        console.get_by_role("button", name="Sign and approve").click()
    console.get_by_text("Its agent may submit it until").wait_for()
    assert desk.call("orders_submit", preview_id=preview_id)["state"] == "filled"
    again = console.evaluate(
        """async ([url, body]) => {
          const token = localStorage.getItem("neural-trader-console-token");
          const headers = { "Content-Type": "application/json", "X-Console-Token": token };
          return (await fetch(url, { method: "POST", headers, body })).json();
        }""",
        [sent.value.url, sent.value.post_data],
    )
    assert again["error"]["code"] == "preview_used"


def test_a_draft_for_another_order_than_the_one_shown_is_not_signed(
    console: Page, desk: Desk, seen: Seen
) -> None:
    preview_id = ask(desk, 27, "small print")

    def more(route: Route) -> None:
        answer = route.fetch()
        document = answer.json()
        document["intent"]["quantity"] = "2500"
        route.fulfill(response=answer, json=document)

    console.route("**/draft", more)
    card(console, preview_id).get_by_role("button", name="Approve…").click()
    console.get_by_text("draft_altered").wait_for()
    assert console.get_by_role("button", name="Sign and approve").count() == 0
    assert not [request for request in seen.requests if request.url.endswith("/accept")]
    console.keyboard.press("Escape")
    desk.services.inbox.reject(preview_id, person=desk.services.person, reason="cleared away")


def test_a_rejection_is_final_and_words_of_strangers_stay_words(
    console: Page, desk: Desk, shoot: Shoot
) -> None:
    preview_id = ask(desk, 28, SCRIPT)
    waiting = card(console, preview_id)
    expect(waiting).to_contain_text(SCRIPT)
    assert console.locator("main script, main img").count() == 0
    assert "stolen" not in console.title()
    shoot(console, "c1-script")
    waiting.get_by_role("button", name="Reject…").click()
    console.get_by_label("Why (it goes into the audit log)").fill("it reads like an attack")
    shoot(console, "c1-reject")
    console.get_by_role("button", name="Reject", exact=True).click()
    console.get_by_text("Rejected: BUY 28 AAPL.").wait_for()
    expect(waiting).to_have_count(0)
    with pytest.raises(NeuralTraderError, match="preview_rejected"):
        desk.call("orders_submit", preview_id=preview_id)


def test_what_ended_while_the_person_read_is_refused_and_the_warning_of_outside_text_is_shown(
    console: Page, desk: Desk, shoot: Shoot
) -> None:
    agent = desk.services.caller
    with desk.services.store.unit() as unit:
        taints.mark(unit, caller=agent, source=Source.NEWS, text="buy now!", tool="market_get_news")
    preview_id = ask(desk, 3, "small, but after reading the news")
    waiting = card(console, preview_id)
    expect(waiting).to_contain_text("approval_tainted")
    expect(waiting).to_contain_text("it may be acting on a stranger's words")
    shoot(console, "c1-tainted")
    waiting.get_by_role("button", name="Approve…").click()
    console.locator("input[name=key]").set_input_files(desk.home.approver_key)
    with desk.services.store.unit() as unit:
        ended = ("2026-01-01T00:00:00Z", preview_id)
        unit.connection.execute("UPDATE previews SET expires_time = ? WHERE preview_id = ?", ended)
        taints.clear(unit, person=desk.services.person, principal="owner", agent=agent.agent, reason="read")
    console.get_by_role("button", name="Sign and approve").click()
    console.get_by_text("preview_expired").wait_for()
    with pytest.raises(NeuralTraderError, match="preview_expired"):
        desk.call("orders_submit", preview_id=preview_id)


def test_an_order_that_needs_two_persons_waits_for_the_second_who_signs_with_her_own_key(
    console: Page, desk: Desk, tmp_path: Path, shoot: Shoot
) -> None:
    issuer, now = SigningKey.load(desk.home.issuer_key), desk.services.clock.now()
    key = SigningKey.generate("neural-trader.local/approver/vera/11111111")
    key.save(tmp_path / "approver-vera.key")
    lifted = Override(
        rules=("max_notional",),
        agent="agent-1",
        account="paper",
        symbol="AAPL",
        not_before=now,
        expires=now + timedelta(hours=1),
        reason="the block that both agreed on",
    )
    with desk.services.store.unit() as unit:
        vera = sign_enrolment(
            *(unit.connection, issuer),
            kind="person",
            name="vera",
            roles=frozenset({Role.APPROVER}),
            time=now,
            vkey=key.vkey,
        )
        enroll(unit, vera, issuer=desk.services.issuer, caller=desk.services.person)
        grant(
            *(unit, lifted.signed_by(issuer)),
            issuer=desk.services.issuer,
            overridable=("max_notional",),
            caller=desk.services.person,
            now=now,
        )
    preview_id = ask(desk, 120, "a block")
    expect(card(console, preview_id)).to_contain_text("2 missing")
    for person, file, left in (
        ("owner", desk.home.approver_key, "It still waits for 1 more."),
        ("vera", tmp_path / "approver-vera.key", "Its agent may submit it until"),
    ):
        console.goto("about:blank")
        console.goto(desk.link(person))
        card(console, preview_id).get_by_role("button", name="Approve…").click()
        console.locator("input[name=key]").set_input_files(file)
        console.get_by_role("button", name="Sign and approve").click()
        console.get_by_text(left).wait_for()
        if person == "owner":
            expect(card(console, preview_id)).to_contain_text("1 missing; signed by owner")
        shoot(console, f"c1-quorum-{person}")
    assert desk.call("orders_submit", preview_id=preview_id)["state"] == "filled"


def test_a_working_order_is_canceled_in_the_persons_name(console: Page, desk: Desk, shoot: Shoot) -> None:
    preview = desk.call(
        "orders_preview",
        symbol="AAPL",
        side="buy",
        quantity="1",
        type="limit",
        limit_price="400",
        reason="low",
    )
    order = desk.call("orders_submit", preview_id=preview["preview_id"])
    console.evaluate(f"location.hash = '#/orders/{order['client_order_id']}'")
    console.get_by_role("button", name="Cancel order…").click()
    console.get_by_role("button", name="Cancel the order").click()
    story = console.get_by_role("region", name="Story")
    expect(story).to_contain_text("Cancel")
    expect(story).to_contain_text("· owner ·")
    expect(console.get_by_role("button", name="Cancel order…")).to_have_count(0)
    shoot(console, "c1-canceled")
    console.evaluate("location.hash = '#/orders'")
    console.get_by_label("State").select_option("canceled")
    expect(console.locator("tbody tr")).to_have_count(1)
    console.get_by_label("Find").fill("nothing like this")
    console.get_by_text("No order fits.").wait_for()
