"""`neural-trader data similar`: a table for people, a document for programs, the clock's horizon for both."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from neural_trader_server.cli.similar import By
from neural_trader_server.home import Home
from neural_trader_tools.features import similar

Here = Callable[..., Any]


def test_the_command_offers_every_measure() -> None:
    assert tuple(By) == get_args(similar.By)


def test_windows_are_shown_with_what_followed_them(home: Home, here: Here, sample_archive_root: Path) -> None:
    assert here("data", "list").returncode == 0
    shutil.copytree(sample_archive_root, home.path / "archive", dirs_exist_ok=True)
    words = ("data", "similar", "AAPL", "--window", "30", "--top", "3", "--horizon", "7")
    shown = here(*words, "--by", "dtw", "--as-of", "2010-01-04")
    assert shown.returncode == 0, shown.stderr
    words_shown = " ".join(shown.stdout.split())  # however wide the terminal is
    assert "by dtw, lag at most 3 bars: the nearest of" in words_shown
    assert "What followed, beside what usually follows" in words_shown
    told = json.loads(here(*words, "--as-of", "2010-01-04", "--all", "--json").stdout)
    assert told["searched"] == 7  # Facebook's bars and the VIX's begin later
    assert len(told["matches"]) == 3
    assert here("data", "replay", "set", "2010-01-04").returncode == 0
    capped = json.loads(here(*words, "--as-of", "2013-01-01", "--all", "--json").stdout)
    assert capped == told
    refused = here(*words, "--window", "1", "--json")
    assert (refused.returncode, json.loads(refused.stdout)["error"]["code"]) == (1, "invalid_argument")
    assert here(*words, "--by", "eye").returncode == 2
