"""`neural-trader news import|list|show`: for a person at the command line, who is not marked but is told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neural_trader_governance import taints
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings

Here = Callable[..., Any]


def written(folder: Path, title: str, text: str = "") -> str:
    file = folder / "wire.jsonl"
    line = {"id": "1", "title": title, "text": text, "published": "2026-01-02T12:00:00Z"}
    file.write_text(json.dumps(line) + "\nno json\n")
    return str(file)


def test_a_text_is_imported_revised_listed_as_of_a_moment_and_shown(
    home: Home, here: Here, tmp_path: Path
) -> None:
    words = ("--symbol", "AAPL", "--licence", "CC0", "--known-when-published")
    told = here("news", "import", written(tmp_path, "Apple buys [bold]a bank", "\x1b[2Jwhole text"), *words)
    assert told.returncode == 0, told.stderr
    assert "no JSON object" in told.stdout
    assert here("news", "import", written(tmp_path, "Apple denies it"), *words).returncode == 0

    then = ("--as-of", "2026-01-02T12:00:00Z")
    [one] = json.loads(here("news", "list", "--symbol", "AAPL", *then, "--json").stdout)["articles"]
    assert (one["title"], one["known_time"]) == ("Apple buys [bold]a bank", "2026-01-02T12:00:00Z")
    listed = here("news", "list", *then).stdout
    assert "1 of 1 texts, written by strangers" in listed
    assert "Apple buys [bold]a bank" in listed
    assert "(assumed)" in listed
    assert "none" in here("news", "list", "--as-of", "2026-01-02T11:59:59Z").stdout

    shown = here("news", "show", one["article_id"], *then).stdout
    assert "Written by a stranger" in shown
    assert "\x1b" not in shown
    assert "[2Jwhole text" in shown
    whole = json.loads(here("news", "show", one["article_id"], "--json").stdout)
    assert whole["untrusted"] is True
    assert whole["source"]["licence"] == "CC0"
    assert [each["title"] for each in whole["articles"]] == ["Apple denies it", "Apple buys [bold]a bank"]
    assert "Earlier versions" in here("news", "show", one["article_id"]).stdout

    services = Services(home, Settings(), WallClock())
    with services.store.read() as connection:
        assert taints.read(connection) == []
    services.close()


def test_what_fails_ends_with_the_reason_and_the_exit_code(home: Home, here: Here, tmp_path: Path) -> None:
    good = written(tmp_path, "good")
    failed = here("news", "import", str(tmp_path / "none.csv"), good, "--json")
    assert failed.returncode == 1
    none, kept = json.loads(failed.stdout)["reports"]
    assert (none["code"], kept["written"]["rows_new"], kept["rows_quarantined"]) == ("file_missing", 1, 1)
    told = here("news", "import", str(tmp_path / "none.csv"))
    assert told.returncode == 1
    assert "file_missing: " in told.stderr
    for words, code in (
        (("import", "gopher://x.example"), "feed_address_invalid"),
        (("import", good, "--symbol", "apple"), "invalid_symbol"),
        (("list", "--as-of", "never"), "invalid_time"),
        (("list", "--limit", "0"), "invalid_limit"),
        (("show", "../../etc"), "article_unknown"),
    ):
        refused = here("news", *words, "--json")
        assert (refused.returncode, json.loads(refused.stdout)["error"]["code"]) == (1, code), words
