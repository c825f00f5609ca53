"""The page that clients of MCP Apps show beside `chart_render`, in a frame as they give it."""

import json
from collections.abc import Callable
from html import escape
from importlib import resources

import pytest
from playwright.sync_api import Page, expect
from tests.server.console.conftest import Desk, Seen

Shoot = Callable[[Page, str], None]
HOST = """
<!doctype html><body style="margin:0">
<iframe sandbox="allow-scripts" width="720" height="380" style="border:0" srcdoc="{page}"></iframe><script>
const frame = document.querySelector("iframe"), heard = window.heard = [];
const say = (message) => frame.contentWindow.postMessage({{ jsonrpc: "2.0", ...message }}, "*");
addEventListener("message", ({{ data }}) => {{
  heard.push(data.method);
  if (data.method === "ui/initialize") say({{ id: data.id, result: {{
    protocolVersion: "2026-01-26", hostInfo: {{ name: "stand-in", version: "1" }},
    hostCapabilities: {{}}, hostContext: {{ theme: "{theme}" }},
  }} }});
  if (data.method === "ui/notifications/initialized") {{
    say({{ method: "ui/notifications/tool-result", params: {result} }});
  }}
}});
</script></body>
"""
POLICY = (
    "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; script-src 'unsafe-inline';"
    " style-src 'unsafe-inline'\">"
)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_chart_is_drawn_in_a_frame_that_reaches_nothing(
    desk: Desk, page: Page, seen: Seen, shoot: Shoot, theme: str
) -> None:
    told = desk.call("chart_render", symbol="AAPL")
    html = resources.files("neural_trader_server").joinpath("chart.html").read_text(encoding="utf-8")
    whole = html.replace("<title>", f"{POLICY}<title>", 1)
    result = json.dumps({"content": [], "structuredContent": told}).replace("<", "\\u003c")
    page.set_content(HOST.format(page=escape(whole), theme=theme, result=result))
    frame = page.frame_locator("iframe")
    expect(frame.locator("#summary")).to_have_text(told["summary"])
    page.wait_for_function("heard.includes('ui/notifications/size-changed')")
    canvas = frame.locator("canvas")
    pixels = "(one) => one.getContext('2d').getImageData(0, 0, one.width, one.height).data"
    assert canvas.evaluate(f"(one) => ({pixels})(one).some((part) => part > 0)"), "something is drawn"
    shoot(page, f"app-chart-{theme}")
    canvas.focus()
    page.keyboard.press("End")
    value = told["columns"]["value"][-1]
    expect(frame.locator("#at")).to_contain_text(f"{value:,.6g}".rstrip("0").rstrip("."))
    assert [request.url for request in seen.requests if not request.url.startswith("about:")] == []


def test_a_refusal_is_shown_in_words(desk: Desk, page: Page) -> None:
    html = resources.files("neural_trader_server").joinpath("chart.html").read_text(encoding="utf-8")
    refused = {
        "isError": True,
        "content": [{"type": "text", "text": "unknown_symbol: there is no NOPE; look"}],
    }
    page.set_content(HOST.format(page=escape(html), theme="light", result=json.dumps(refused)))
    expect(page.frame_locator("iframe").locator("#summary")).to_have_text(
        "unknown_symbol: there is no NOPE; look"
    )
