"""CPU per message of the live path, beside a loop that only decodes with msgspec.

Frames of 20 messages as Alpaca sends them (10 quotes, 9 trades, a bar; 50 symbols). CPU time of the process,
all its threads, the lowest of several rounds; the journal writes and syncs to this disk, and makes Arrow of
the events where they are appended, so that the path without commits has that too. Alpaca's own client
(alpaca-py) is measured too where it is installed. Decoding is that of our Alpaca adapter.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec
from results import Case, write_results

from neural_trader_tools.market.feed.bars import BarBuilder
from neural_trader_tools.market.feed.compaction import compact, open_journal
from neural_trader_tools.market.feed.pipeline import Pipeline
from neural_trader_tools.market.feed.rules import Rules
from neural_trader_tools.market.feed.ticks import SECOND_NS, Trade, format_ns, parse_ns
from neural_trader_tools.market.providers.alpaca_messages import AlpacaDecoder

FRAMES, PER_FRAME, ROUNDS = 2_500, 20, 5
MESSAGES = FRAMES * PER_FRAME
START_NS = parse_ns("2026-11-20T15:30:00.123456789Z")


class VendorTrade(msgspec.Struct, tag_field="T", tag="t", gc=False):
    S: str
    p: float
    s: float
    t: str
    i: int = 0
    x: str = ""
    c: tuple[str, ...] = ()


class VendorQuote(msgspec.Struct, tag_field="T", tag="q", gc=False):
    S: str
    bp: float
    bs: float
    ap: float
    as_: float = msgspec.field(name="as")
    t: str = ""
    bx: str = ""


class VendorBar(msgspec.Struct, tag_field="T", tag="b", gc=False):
    S: str
    o: float
    h: float
    l: float  # noqa: E741 (the vendor's name)
    c: float
    v: float
    t: str = ""


decoder = msgspec.json.Decoder(list[VendorTrade | VendorQuote | VendorBar])


decode = AlpacaDecoder("json", "").decode
unpack = AlpacaDecoder("msgpack", "").decode


def frames() -> list[bytes]:
    """A busy feed: 100,000 messages a second over 50 symbols, prices that wander."""
    made: list[bytes] = []
    for serial in range(FRAMES):
        messages: list[object] = []
        for place in range(PER_FRAME):
            number = serial * PER_FRAME + place
            symbol, price = f"S{number * 7 % 50:02d}", round(190 + (number * 7919 % 101) / 100, 2)
            at = format_ns(START_NS + number * 10_000)
            if place == PER_FRAME - 1:
                bar = {
                    "o": price,
                    "h": price + 1,
                    "l": price - 1,
                    "c": price,
                    "v": 123456,
                    "n": 321,
                    "vw": price,
                }
                messages.append({"T": "b", "S": symbol, **bar, "t": at[:19] + "Z"})
            elif place % 2:
                trade = {"i": number, "x": "V", "p": price, "s": 100 + number % 7, "c": ["@", "I"], "z": "C"}
                messages.append({"T": "t", "S": symbol, **trade, "t": at})
            else:
                bid = {"bx": "V", "bp": price, "bs": 3 + number % 5, "ax": "Q", "ap": price + 0.02, "as": 5}
                messages.append({"T": "q", "S": symbol, **bid, "c": ["R"], "z": "C", "t": at})
        made.append(msgspec.json.encode(messages))
    return made


def packed(feed: list[bytes]) -> list[bytes]:
    """The same feed in MessagePack, as Alpaca sends it to those who ask for that."""
    made: list[bytes] = []
    for frame in feed:
        messages = msgspec.json.decode(frame)
        for message in messages:
            at_ns = parse_ns(message["t"])
            stamp = (at_ns % SECOND_NS << 34 | at_ns // SECOND_NS).to_bytes(8, "big")
            message["t"] = msgspec.msgpack.Ext(-1, stamp)
        made.append(msgspec.msgpack.encode(messages))
    return made


def cpu_us(action: Callable[[], object]) -> float:
    """Returns CPU microseconds per message, the lowest of the rounds."""
    lowest = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        action()
        lowest = min(lowest, time.process_time() - start)
    return lowest / MESSAGES * 1e6


def whole_path(feed: list[bytes], *, with_journal: bool = True) -> float:
    """Returns CPU microseconds per message from the frame to four subscribers, commits included."""
    now_ns = START_NS + SECOND_NS

    async def run(root: Path) -> float:
        path = Pipeline(open_journal(root), bars=[BarBuilder("1m"), BarBuilder("1s")], now_ns=lambda: now_ns)
        channels = [path.subscribe(f"subscriber {i}", kinds=[Trade] if i % 2 else []) for i in range(4)]
        start = time.process_time()
        for number, frame in enumerate(feed):
            await path.receive(frame, decode)
            if number % 400 == 399:  # 8,000 messages
                for channel in channels:
                    while channel.report().depth:
                        await channel.receive_all(10_000)
                if with_journal:
                    await path.commit()
        if with_journal:
            await path.commit()
        spent = time.process_time() - start
        report = path.report()
        if report.events != MESSAGES or any(channel.dropped for channel in report.channels):
            raise SystemExit(f"the path lost something: {report}")
        await path.close()
        return spent

    lowest = float("inf")
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            lowest = min(lowest, anyio.run(run, Path(folder)))
    return lowest / MESSAGES * 1e6


def compaction_us(feed: list[bytes]) -> float:
    """Returns CPU microseconds per row of moving the journal to Parquet."""
    lowest = float("inf")
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            journal = open_journal(Path(folder))
            for frame in feed:
                for event in decode(frame, START_NS):
                    journal.append(event)
            journal.close()
            start = time.process_time()
            if compact(Path(folder)).rows != MESSAGES:
                raise SystemExit("the compaction lost something")
            lowest = min(lowest, time.process_time() - start)
    return lowest / MESSAGES * 1e6


def main() -> None:
    feed = frames()
    bare = cpu_us(lambda: [decoder.decode(frame) for frame in feed])
    decoded = [[*decode(frame, START_NS)] for frame in feed]

    def judged() -> None:
        rules = Rules()
        for events in decoded:
            for event in events:
                rules.check(event)  # pyright: ignore[reportArgumentType]

    in_msgpack = packed(feed)
    cases = [
        Case(
            "decode and normalise", cpu_us(lambda: [decode(frame, START_NS) for frame in feed]), bare, "", ""
        ),
        Case(
            "decode and normalise, MessagePack",
            cpu_us(lambda: [unpack(frame, START_NS) for frame in in_msgpack]),
            bare,
            "",
            "",
        ),
        Case("the rules alone", cpu_us(judged), bare, "", ""),
        Case("whole path without commits", whole_path(feed, with_journal=False), bare, "", ""),
        Case("whole path, synced every 8,000", whole_path(feed), bare, "", ""),
        Case("compaction to Parquet", compaction_us(feed), bare, "", ""),
    ]
    named = [Case(case.case, case.ours, case.peer, "msgspec decode only", "CPU us/message") for case in cases]
    with suppress(ImportError):
        theirs = alpaca_us()
        named.append(Case(cases[1].case, cases[1].ours, theirs, "alpaca-py, msgpack", "CPU us/message"))
        named.append(Case(cases[4].case, cases[4].ours, theirs, "alpaca-py, decode only", "CPU us/message"))
    write_results("ingest", named)


def alpaca_us() -> float:
    """Returns CPU microseconds per message of what alpaca-py does with a frame: msgpack, then its models.

    Raises:
        ImportError: alpaca-py is not installed.
    """
    import msgpack
    from alpaca.data.models import Bar, Quote, Trade

    models = {"t": Trade, "q": Quote, "b": Bar}
    packed = []
    for frame in frames():
        messages = msgspec.json.decode(frame)
        for message in messages:
            message["t"] = msgpack.Timestamp(START_NS // SECOND_NS, parse_ns(message["t"]) % SECOND_NS)
        packed.append(msgpack.packb(messages))

    def decoded() -> None:
        for frame in packed:
            for message in msgpack.unpackb(frame):
                message["t"] = message["t"].to_datetime()
                models[message["T"]](message["S"], message)

    return cpu_us(decoded)


if __name__ == "__main__":
    main()
