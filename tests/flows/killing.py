"""Kills a trading desk at random points, starts it again, and compares it with its exchange each time.

    python -m tests.flows.killing --kills 1000    (make kill-orders)

The exchange is `neural-trader exchange serve`, a process that lives on and makes an order of every request
without an id. After each restart, once the desk has reconciled: every order that was acknowledged is there;
every order of the exchange is one of the desk's, once; fills, cash and positions agree to the last unit; the
log verifies, and the orders are what it says. `--wrong recorded-late` and `--wrong named-anew` run desks that
submit first and record then: the same comparison must find what they lose and double.

Exits with 3 where something was found.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import NoReturn

import httpx
import msgspec
from tests.flows.killed_books import Books, compare
from tests.flows.killed_desk import DESKS, STAND_IN, START, Home, live
from tests.flows.killed_processes import Lines, exchange

from neural_trader_governance.policy.engine import PolicyEngine
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.terms.clocks import parse_time
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.providers.sample import fetch_sample

PRICES = {"AAPL": Decimal("564.29"), "GOOG": Decimal("578.59")}
"""Closes of that day."""
KILLS_A_HOME = 20
STEP_EVERY = 5
"""Kills from one session of the market to the next."""
EARLY = 0.2
"""Share of the kills that may hit the start: opening the store and reconciling."""
EARLY_S = 0.15
WORDS, LATER_S = 24, 0.05
"""Under load it is killed up to so long after so many lines at most, however slow the machine is."""
DEADLINE_S = 60.0
FOUND_MAX = 10


@dataclass(slots=True)
class Figures:
    """What happened; everything in `found` is a failure of the desk."""

    kills: int = 0
    restarts_compared: int = 0
    killed_while_starting: int = 0
    submissions_cut: int = 0
    in_doubt: int = 0
    acknowledged: int = 0
    canceled: int = 0
    streams_heard: int = 0
    retried: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])
    exchange_orders: int = 0
    ids_used_up: int = 0
    fills: int = 0
    lost: int = 0
    doubled: int = 0
    found: list[str] = field(default_factory=list[str])
    seconds: float = 0.0

    def add(self, home: Books) -> None:
        """Counts what a home ends with."""
        self.exchange_orders += home.orders
        self.ids_used_up += home.used_up
        self.fills += home.fills


@dataclass(slots=True)
class Killing:
    """One home, killed again and again.

    Attributes:
        pending: Previews whose submission was begun and not answered, and their agents.
        acknowledged: Orders that clients were told of.
    """

    home: Home
    wrong: str
    chance: random.Random
    figures: Figures
    http: httpx.Client
    acknowledged: set[str] = field(default_factory=set[str])
    pending: dict[str, str] = field(default_factory=dict[str, str])

    def cycle(self, number: int) -> Books | None:
        """Lives and is killed once; returns the comparison, unless it was killed before it had reconciled."""
        early = self.chance.random() < EARLY
        words = self.chance.randint(1, WORDS)
        delay_s = self.chance.uniform(0, EARLY_S if early else LATER_S)
        again = [] if early else list(self.pending.items())
        heard, said = os.pipe()
        waits, go = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(heard)
            os.close(go)
            self._be_desk(number, said, waits, again)
        os.close(said)
        os.close(waits)
        books: Books | None = None
        lines = Lines(heard)
        try:
            first = lines.next(delay_s if early else DEADLINE_S)
            if first is None:
                assert early, f"the desk did not start in cycle {number}"
                self.figures.killed_while_starting += 1
            else:
                self.figures.in_doubt += int(first.removeprefix("S "))
                books = compare(self.home, self.http, self.acknowledged)
                self.figures.restarts_compared += 1
                for preview_id, _ in again:
                    del self.pending[preview_id]
                self.figures.retried += len(again)
                os.write(go, b"!")
                for _ in range(words):
                    line = lines.next(DEADLINE_S)
                    assert line is not None, f"the desk did not trade in cycle {number}"
                    self._hear(line)
                time.sleep(delay_s)
        finally:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), f"the desk ended by itself in cycle {number}"
        while (line := lines.next(DEADLINE_S)) is not None:
            if not line.startswith("S "):
                self._hear(line)
        os.close(heard)
        os.close(go)
        self.figures.kills += 1
        self.figures.submissions_cut += len(self.pending) if books is not None else 0
        return books

    def _hear(self, line: str) -> None:
        kind, first, *rest = line.split()
        if kind == "P":
            self.pending[first] = rest[0]
        elif kind == "A":
            self.pending.pop(first, None)
            self.acknowledged.add(rest[0])
            self.figures.acknowledged += 1
        elif kind == "R":
            self.pending.pop(first, None)
            self.figures.refused[rest[0]] += 1
        elif kind == "C":
            self.figures.canceled += 1
        elif kind == "H":
            self.figures.streams_heard += 1

    def _be_desk(self, number: int, said: int, waits: int, again: list[tuple[str, str]]) -> NoReturn:
        os.dup2(os.open(self.home.path / "desk.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        os.dup2(1, 2)
        try:
            live(self.home, number, self.wrong, self.chance.getrandbits(32), said, waits, again)
        finally:
            os._exit(1)


def kill(
    kills: int,
    *,
    wrong: str,
    until: str,
    seed: int,
    archive: Path,
    place: Path,
    tell: Callable[[Figures], object],
) -> Figures:
    """Kills a desk so many times, `KILLS_A_HOME` times in a home; ends early where a right desk fails.

    Args:
        kills: How often.
        wrong: Of `DESKS`.
        until: `lost` or `doubled`: enough, once there is one.
        seed: Of when to kill, and what is traded.
        archive: With the sample prices.
        place: Where homes are made.
        tell: Is told after each home.
    """
    figures, chance, began = Figures(), random.Random(seed), time.monotonic()  # noqa: S311 - where to kill
    policy = PolicyEngine.load()
    number = 0
    while figures.kills < kills and not _is_enough(figures, wrong, until):
        path = place / f"home-{number}"
        number += 1
        with exchange(path / "exchange", archive) as there:
            keys = {"APCA-API-KEY-ID": there["key_id"], "APCA-API-SECRET-KEY": there["secret_key"]}
            home = Home(
                path,
                archive,
                SigningKey.generate("neural-trader.test/desk"),
                SigningKey.generate("issuer"),
                policy,
                there["url"],
                there["key_id"],
                there["secret_key"],
                PRICES,
            )
            home.found()
            home.replay.set(parse_time(START))
            with httpx.Client(base_url=there["url"], headers=keys, trust_env=False, timeout=30) as http:
                _require_two(http)
                one = Killing(home, wrong, chance, figures, http)
                _kill_home(one, min(KILLS_A_HOME, kills - figures.kills), until)
        figures.seconds = round(time.monotonic() - began, 1)
        tell(figures)
    return figures


def _is_enough(figures: Figures, wrong: str, until: str) -> bool:
    return bool(figures.found) and (
        not wrong or {"lost": figures.lost, "doubled": figures.doubled}.get(until, 0) > 0
    )


def _kill_home(one: Killing, kills: int, until_found: str) -> None:
    figures, cycle = one.figures, 0
    books: Books | None = None
    lost: set[str] = set()
    doubled: set[str] = set()
    until = figures.kills + kills
    while figures.kills < until or books is None:  # the last comparison counts the home
        if cycle % STEP_EVERY == STEP_EVERY - 1:
            one.home.replay.set(parse_time(one.http.post("/market/step?count=1").json()["time"]))
        books = one.cycle(cycle)
        cycle += 1
        if books is None:
            continue
        if len(figures.found) < FOUND_MAX:
            figures.found += [f"cycle {cycle}: {each}" for each in books.others]
        lost |= books.lost
        doubled |= books.doubled
        if not one.wrong and (lost or doubled or figures.found):
            break
        if {"lost": lost, "doubled": doubled}.get(until_found):
            break
    figures.lost += len(lost)
    figures.doubled += len(doubled)
    figures.found += [f"lost: {name}" for name in sorted(lost)[:5]]
    figures.found += [f"doubled: {name}" for name in sorted(doubled)[:5]]
    figures.add(books)


def _require_two(http: httpx.Client) -> None:
    """Proves that the exchange makes an order of each request without an id, whatever it says."""
    order = {"symbol": STAND_IN, "side": "buy", "type": "limit", "limit_price": "1", "qty": "1"}
    order["time_in_force"] = "day"
    made = [http.post("/v2/orders", json=order).json()["id"] for _ in range(2)]
    assert made[0] != made[1], "this exchange is idempotent about missing ids"
    for each in made:
        http.delete(f"/v2/orders/{each}").raise_for_status()


def _end(*_: object) -> NoReturn:
    """Ends in order where it is told to stop, so that the exchange and the desk end with it."""
    sys.exit(143)


def main() -> None:
    """Reads the command line and prints the figures as JSON, on stderr as it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--wrong", choices=[name for name in DESKS if name], default="")
    parser.add_argument("--until", choices=["lost", "doubled"], default="", help="end once there is one")
    parser.add_argument("--archive", type=Path, help="with the sample prices; fetched where none is named")
    parser.add_argument("--place", type=Path, help="where homes are made, and kept")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)

    def tell(figures: Figures) -> None:
        sys.stderr.write(
            f"{figures.kills} kills in {figures.seconds} s: {figures.acknowledged} orders acknowledged,"
            f" {figures.submissions_cut} submissions cut, {figures.lost} lost, {figures.doubled} doubled\n"
        )

    with contextlib.ExitStack() as stack:
        place = given.place or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        archive = given.archive
        if archive is None:
            archive = place / "archive"
            pid = os.fork()  # what reads prices starts threads, which no fork may have
            if pid == 0:
                fetch_sample(Archive(archive))
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        figures = kill(
            given.kills,
            wrong=given.wrong,
            until=given.until,
            seed=given.seed,
            archive=archive,
            place=place,
            tell=tell,
        )
    sys.stdout.write(json.dumps(msgspec.to_builtins(figures)) + "\n")
    sys.exit(3 if figures.found else 0)


if __name__ == "__main__":
    main()
