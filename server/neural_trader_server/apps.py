"""Apps: the page that a client of MCP Apps shows beside `chart_render` (SEP-1865, protocol 2026-01-26).

The page is self-contained and asks no network: it draws what the tool's result holds, and nothing else.
"""

from importlib import resources
from typing import Any, Final

from mcp.server.apps import Apps, ResourceCsp

CHART_URI: Final = "ui://neural-trader/chart.html"
UI_META: Final[dict[str, dict[str, Any]]] = {"chart_render": {"ui": {"resourceUri": CHART_URI}}}
"""The `_meta` of tools that have a page."""


def open_apps() -> Apps:
    """Returns the extension with its page."""
    apps = Apps()
    apps.add_html_resource(
        CHART_URI,
        resources.files("neural_trader_server").joinpath("chart.html").read_text(encoding="utf-8"),
        name="chart",
        title="Chart",
        description="Draws what chart_render found.",
        csp=ResourceCsp(connect_domains=[], resource_domains=[]),
        prefers_border=True,
    )
    return apps
