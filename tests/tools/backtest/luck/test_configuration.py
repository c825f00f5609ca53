"""What is one trial: however it is written, whoever asks, and whatever an agent does to be counted less."""

import ast
import random
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_tools.backtest.configuration import data_digest, plain_params, source_digest, trial_of
from neural_trader_tools.backtest.ledger import RunLedger
from neural_trader_tools.backtest.settings import BacktestRequest, Settings
from neural_trader_tools.backtest.trials import Trial, Trials, data_key

NOW = datetime(2020, 1, 1, tzinfo=UTC)
APPLE = data_key(["AAPL"], "1d")
SOURCE = '''
"""A cross."""
import polars as pl

def signals(bars, fast: int = 20, slow: int = 50, edge=0.5, hold: bool = True, kind: str = "sma", free=None):
    close = bars["close"]  # the close
    return (close.rolling_mean(fast) > close.rolling_mean(slow)).cast(pl.Float64)
'''
RULE = """
FEATURES = ("sma({fast})",)

def rule(mean, *, fast: int = 20, above: float = -0.5):
    return 1.0 if mean > above else 0.0
"""
CLASS = """
class Dips(Strategy):
    drop: float = 0.02
    days: int
    names = "not a parameter"
    def on_bar(self, bar):
        self.target(self.drop)
"""


def request(**given: Any) -> BacktestRequest:
    return BacktestRequest.model_validate({"source": SOURCE, "symbols": ("AAPL",), **given})


def same(one: BacktestRequest, other: BacktestRequest) -> bool:
    """Whether both are one configuration: on the same prices, and in the ledger."""
    first, second = trial_of(one, "prices", 0.1), trial_of(other, "prices", 0.1)
    assert (first == second) == (first.config_digest == second.config_digest)
    return first == second


@pytest.mark.parametrize(
    ("source", "given_", "plain"),
    [
        (SOURCE, {"fast": 20}, {}),
        (SOURCE, {"fast": 20.0, "slow": "50"}, {}),
        (SOURCE, {"fast": 7.0}, {"fast": 7}),
        (SOURCE, {"edge": 0.50, "hold": "true", "kind": "sma", "free": None}, {}),
        (SOURCE, {"edge": 1, "hold": 0, "kind": "ema", "free": [2.0, {"a": 3.5}]},
         {"edge": 1, "hold": False, "kind": "ema", "free": [2, {"a": 3.5}]}),
        (SOURCE, {"fast": 2.5, "slow": "many"}, {"fast": 2.5, "slow": "many"}),  # the sandbox will refuse it
        (RULE, {"fast": 20, "above": -0.5}, {}),
        (RULE, {"above": 1}, {"above": 1}),
        (CLASS, {"drop": 0.02, "days": 3.0}, {"days": 3}),
        ("def signals(bars, **params): ...", {"n": 2.0, "m": True}, {"n": 2, "m": True}),
    ],
)  # fmt: skip
def test_parameters_are_what_the_strategy_makes_of_them(
    source: str, given_: dict[str, Any], plain: dict[str, Any]
) -> None:
    found = plain_params(source, given_)
    assert found == plain
    assert [type(value) for value in found.values()] == [type(value) for value in plain.values()]


def test_what_is_written_otherwise_is_no_other_configuration() -> None:
    plain = request()
    assert same(plain, request(params={"slow": 50.0, "fast": 20}))
    assert same(request(params={"fast": 2}), request(params={"fast": 2.0}))
    assert same(request(symbols=("AAPL", "MSFT")), request(symbols=("MSFT", "AAPL")))
    assert same(plain, request(settings=Settings(convention="quantstats")))
    assert same(plain, request(settings=Settings(cash=Decimal("100000.00"))))
    assert same(plain, request(strategy_id="a" * 64))  # saved under whatever name
    others = [
        request(params={"fast": 21}),
        request(symbols=("AAPL", "MSFT")),
        request(interval="1h"),
        request(settings=Settings(cash=Decimal(1000))),
        request(settings=Settings(commission_bps=5.0)),
        request(source=SOURCE.replace("fast) >", "fast) <")),
    ]
    digests = {trial_of(each, "prices", 0.1).seen for each in [plain, *others]}
    assert len(digests) == len(others) + 1
    moved = trial_of(request(start=datetime(2001, 1, 1, tzinfo=UTC), seed=3), "prices", 0.1)
    assert moved.seen == trial_of(plain, "prices", 0.1).seen  # the same if it saw and came to the same
    assert moved.config_digest != trial_of(plain, "prices", 0.1).config_digest
    assert data_digest(["a", "b"]) == data_digest(["b", "a"]) != data_digest(["a"])


@given(seed=st.integers(0, 2**32), count=st.integers(1, 12))
def test_comments_blank_lines_and_docstrings_are_no_other_code(seed: int, count: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # it must repeat
    lines = list[str](SOURCE.split("\n"))
    for number in range(count):
        place = chance.choice([0, 3, 4, 5, 7, len(lines)])
        lines.insert(place if place <= len(lines) else 0, chance.choice(["", "# n = 3", f"   # {number}"]))
    changed = "\n".join(lines).replace("bars[", "bars [").replace("A cross.", f"Tuned {seed} times.")
    assert source_digest(changed) == source_digest(SOURCE)
    assert source_digest(SOURCE.replace("rolling_mean(fast)", "rolling_mean(fast + 1)")) != source_digest(
        SOURCE
    )
    ast.parse(changed)


def test_code_that_cannot_be_read_is_told_by_its_text() -> None:
    assert source_digest("def (") != source_digest("def ( ")
    deep = "x = " + "-" * 5000 + "1"
    assert source_digest(deep) == source_digest(deep)
    assert source_digest("'only a text'") == source_digest("pass")


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    return Trials(tmp_path / "research.db")


def count(trials: Trials, *tried: Trial) -> list[str]:
    return trials.add(APPLE, tried, "bt-1", "agent", NOW)


def test_a_seed_that_changed_nothing_is_no_other_try_and_one_that_drew_otherwise_is(trials: Trials) -> None:
    first, second, third = (
        trial_of(request(seed=seed), "prices", sharpe) for seed, sharpe in ((0, 0.1), (1, 0.1), (2, 0.2))
    )
    assert count(trials, first, second) == [first.config_digest] * 2
    assert trials.sharpes(APPLE) == [0.1]
    count(trials, third)
    assert trials.sharpes(APPLE) == [0.1, 0.2]
    sweep = third._replace(sharpe_per_bar=0.2 * (1 + 1e-13))  # summed up in another order
    assert count(trials, sweep) == [third.config_digest]


def test_the_same_code_that_comes_to_something_else_on_the_same_prices_is_another_try(trials: Trials) -> None:
    """Ids of objects, races, the number of its own line: whatever it draws from, every draw counts."""
    drawn = [trial_of(request(), "prices", sharpe) for sharpe in (0.1, 0.2, 0.3, 0.2, None)]
    names = count(trials, *drawn)
    assert trials.sharpes(APPLE) == [0.1, 0.2, 0.3, None]
    assert (names[1], len(set(names))) == (names[3], 4)
    assert trials.sharpes(APPLE, excluding=names[2]) == [0.1, 0.2, None]
    by_its_lines = trial_of(request(source="\n\n" + SOURCE), "prices", 0.4)
    assert by_its_lines.config_digest == drawn[0].config_digest
    count(trials, by_its_lines)
    assert trials.sharpes(APPLE) == [0.1, 0.2, 0.3, None, 0.4]


def test_newer_prices_make_no_other_try_of_the_same_but_hide_no_draw_either(trials: Trials) -> None:
    count(trials, trial_of(request(), "monday", 0.1))
    count(trials, trial_of(request(), "tuesday", 0.11))
    assert trials.sharpes(APPLE) == [0.1]
    count(trials, trial_of(request(), "tuesday", 0.5))  # not what it came to on Tuesday's prices before
    assert trials.sharpes(APPLE) == [0.1, 0.5]
    count(trials, trial_of(request(), "tuesday", 0.11))
    assert trials.sharpes(APPLE) == [0.1, 0.5]


def test_a_period_that_ends_where_the_data_end_is_the_whole_period(trials: Trials) -> None:
    bounded = request(start=datetime(1990, 1, 1, tzinfo=UTC))
    count(trials, trial_of(request(), "prices", 0.1))
    key = data_key(["AAPL"], "1d", bounded.start)
    assert trials.add(key, [trial_of(bounded, "prices", 0.1)], "bt-2", "other", NOW) == [
        trial_of(request(), "prices", 0.1).config_digest
    ]
    assert trials.sharpes(key) == [0.1]


OUTCOMES = st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from([None, 0.1, 0.2]))


@settings(max_examples=30, deadline=None)
@given(runs=st.lists(OUTCOMES, max_size=20))
def test_every_different_result_of_a_configuration_is_counted_once_in_whatever_order(
    runs: list[tuple[int, int, float | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An adversary chooses parameters, seeds and what comes out: none of his draws is lost or doubled."""
    trials = Trials(tmp_path_factory.mktemp("home") / "research.db")
    tried = [
        trial_of(request(params={"fast": fast}, seed=seed), "prices", drawn) for fast, seed, drawn in runs
    ]
    names = count(trials, *tried)
    assert len(set(names)) == len({(fast, sharpe) for fast, _, sharpe in runs})
    expected = {(fast, sharpe) for fast, _, sharpe in runs}
    assert len(trials.sharpes(APPLE)) == len(expected)


COUNTING = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from neural_trader_tools.backtest.trials import Trial, Trials, data_key
key, agent = data_key(["AAPL"], "1d"), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
trials = Trials(Path(sys.argv[1]))
for part in range(20):
    tried = [Trial(f"{n}", n / 1000, f"s{n}") for n in range(part * 10, part * 10 + 10)]
    own = Trial(f"{agent}-{part}", None, f"{agent}{part}")
    trials.add(key, [*tried, own], "bt-" + agent, agent, datetime(2020, 1, 1, tzinfo=UTC))
"""


def test_agents_in_several_processes_and_after_restarts_share_one_count(tmp_path: Path) -> None:
    """They begin together, on a home of the version before this one: its table lacks a column."""
    import sqlite3

    path = tmp_path / "research.db"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE backtest_trials (data_key TEXT NOT NULL, config_digest TEXT NOT NULL, "
            "sharpe_per_bar REAL, run_id TEXT NOT NULL, agent TEXT NOT NULL, created_time TEXT NOT NULL, "
            "PRIMARY KEY (data_key, config_digest)) STRICT"
        )
        connection.execute(
            "INSERT INTO backtest_trials VALUES (?, 'old', 0.5, 'bt-old', 'a', '2020')", (APPLE,)
        )
    connection.close()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", COUNTING, str(path), agent],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for agent in "abc"
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in started:
        process.communicate(timeout=60)
        assert process.returncode == 0
    found = Trials(path).sharpes(APPLE)
    assert len(found) == 1 + 200 + 3 * 20
    assert sorted(sharpe for sharpe in found if sharpe is not None) == sorted(
        [0.5, *(number / 1000 for number in range(200))]
    )


def test_what_a_look_ahead_check_found_follows_the_code_through_comments_and_its_absence_does_not(
    tmp_path: Path,
) -> None:
    ledger = RunLedger(tmp_path / "research.db")
    ledger.add_check(SOURCE, 3)
    assert ledger.look_ahead("# tidy\n" + SOURCE) == 3
    ledger.add_check(RULE, 0)
    assert ledger.look_ahead(RULE) == 0
    assert ledger.look_ahead("# peek\n" + RULE) is None  # code can look at its own lines
    assert ledger.look_ahead(SOURCE + "\nx = 1\n") is None


def test_nothing_offered_takes_a_trial_away(trials: Trials) -> None:
    public = {name for name in dir(trials) if not name.startswith("_")}
    assert public == {"add", "sharpes"}
