"""Live streams over loopback servers: ours and the vendors' own clients against the same services."""

import asyncio
import importlib
import importlib.util
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NoReturn

import anyio
import msgspec
import pytest
from tests.tools.market.loopback import alpaca as alpaca_service
from tests.tools.market.loopback import alpaca_stream, massive_stream
from tests.tools.market.loopback import massive as massive_service
from tests.tools.market.loopback.alpaca_stream import AlpacaStreamLoopback
from tests.tools.market.loopback.massive_stream import MassiveStreamLoopback

from neural_trader_governance.errors import ConfigurationError, InputError, NeuralTraderError
from neural_trader_tools.market.feed.segments import Quarantined
from neural_trader_tools.market.feed.ticks import Amendment, BarTick, Event, Quote, Trade, parse_ns
from neural_trader_tools.market.providers.alpaca_stream import AlpacaStream
from neural_trader_tools.market.providers.massive_stream import MassiveStream
from neural_trader_tools.market.providers.stream import (
    Notice,
    Stream,
    StreamEndedError,
    StreamRequest,
    raise_for,
)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:websockets.* is deprecated:DeprecationWarning"),  # alpaca-py's
    pytest.mark.filterwarnings("ignore:.*iscoroutinefunction:DeprecationWarning"),
]
MakeAlpaca = Callable[..., AlpacaStream]
MakeMassive = Callable[..., MassiveStream]
T = "2026-11-20T15:30:00.123456789Z"
T_NS = parse_ns(T)
T_MS = T_NS // 1_000_000
RECV_NS = T_NS + 1_000_000
AAPL = StreamRequest(("AAPL",))
ALPACA_MESSAGES = [
    alpaca_stream.trade("AAPL", 190.25, T, 7),
    alpaca_stream.quote("AAPL", 190.0, 190.5, T),
    alpaca_stream.minute_bar("AAPL", 190.0, "2026-11-20T15:29:00Z"),
    alpaca_stream.minute_bar("AAPL", 190.1, "2026-11-20T15:29:00Z", "u"),
    alpaca_stream.correction("AAPL", 7, 8, 190.2, T),
    alpaca_stream.cancel("AAPL", 8, T),
]
ALPACA_EVENTS: list[Event] = [
    Trade("AAPL", 190.25, 100.0, T_NS, RECV_NS, "7", "V", ("@", "I")),
    Quote("AAPL", 190.0, 3.0, 190.5, 5.0, T_NS, RECV_NS, "V"),
    BarTick("AAPL", "1m", 190, 191.9, 188.1, 190, 1000, parse_ns("2026-11-20T15:29:00Z"), RECV_NS),
    BarTick("AAPL", "1m", 190.1, 192.001, 188.199, 190.1, 1000, parse_ns("2026-11-20T15:29:00Z"), RECV_NS),
    Amendment("AAPL", "7", "V", 190.2, 50.0, T_NS, RECV_NS, "8"),
    Amendment("AAPL", "8", "V", 0.0, 0.0, T_NS, RECV_NS),
]


@pytest.fixture
def peer(lacking: Callable[[str], NoReturn]) -> Callable[[str], Any]:
    """Imports a module of a peer, untyped as it is."""

    def load(name: str) -> Any:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            lacking(f"{name} is not installed: make peers")
        return importlib.import_module(name)

    return load


# Alpaca


async def test_alpacas_own_client_signs_in_subscribes_and_hears_every_kind_of_message(
    alpaca_live: AlpacaStreamLoopback, peer: Callable[[str], Any]
) -> None:
    live = peer("alpaca.data.live").StockDataStream(
        alpaca_service.KEY, alpaca_service.SECRET, url_override=f"{alpaca_live.url}/v2/iex"
    )
    heard: list[Any] = []
    done = asyncio.Event()

    async def handle(one: Any) -> None:
        heard.append(one)
        if len(heard) == 5:
            done.set()

    for subscribe in (live.subscribe_trades, live.subscribe_quotes, live.subscribe_bars):
        subscribe(handle, "AAPL")
    live.subscribe_updated_bars(handle, "AAPL")
    live._handlers["corrections"]["AAPL"] = handle
    running = asyncio.create_task(live._run_forever())
    await anyio.to_thread.run_sync(
        alpaca_live.wait_until, lambda: bool(alpaca_live.sessions and alpaca_live.sessions[0].channels)
    )
    assert alpaca_live.sessions[0].channels["trades"] == {"AAPL"}
    await anyio.to_thread.run_sync(alpaca_live.publish, ALPACA_MESSAGES[:5])
    await asyncio.wait_for(done.wait(), 20)
    assert [type(one).__name__ for one in heard] == ["Trade", "Quote", "Bar", "Bar", "TradeCorrection"]
    assert (heard[0].price, heard[0].timestamp.replace(microsecond=0)) == (
        190.25,
        datetime(2026, 11, 20, 15, 30, tzinfo=UTC),
    )
    await live.stop_ws()
    await live.close()
    await asyncio.wait_for(running, 20)


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
async def test_our_adapter_hears_the_same_in_both_encodings_to_the_nanosecond(
    alpaca_live: AlpacaStreamLoopback, make_alpaca_stream: MakeAlpaca, encoding: str
) -> None:
    async with make_alpaca_stream(encoding=encoding).open(AAPL) as stream:
        assert alpaca_live.sessions[0].path == "/v2/iex"
        assert alpaca_live.sessions[0].channels["updatedBars"] == {"AAPL"}
        alpaca_live.publish(ALPACA_MESSAGES)
        frame = await stream.receive()
        assert stream.decode(frame, RECV_NS) == ALPACA_EVENTS


async def test_a_message_that_cannot_be_read_costs_itself_and_not_its_frame(
    alpaca_live: AlpacaStreamLoopback, make_alpaca_stream: MakeAlpaca
) -> None:
    bad: list[dict[str, Any]] = [
        {"T": "t", "S": "AAPL", "p": "190", "s": 1, "t": T},
        {"T": "t", "S": "AAPL", "p": 1, "s": 1, "t": "yesterday"},
        {"T": "q", "S": 7, "t": T},
    ]
    async with make_alpaca_stream(encoding="json").open(AAPL) as stream:
        alpaca_live.publish([*bad, {"T": "n", "headline": "news"}, ALPACA_MESSAGES[0]])
        events = stream.decode(await stream.receive(), RECV_NS)
    refused = [event for event in events if isinstance(event, Quarantined)]
    assert [event for event in events if not isinstance(event, Quarantined)] == ALPACA_EVENTS[:1]
    assert len(refused) == 3
    assert all(b"AAPL" in one.content or b'"S": 7' in one.content for one in refused)


@pytest.mark.parametrize(
    ("code", "is_final"),
    [
        *((code, True) for code in (400, 402, 405, 408, 409, 410)),
        *((code, False) for code in (401, 403, 404, 406, 407, 500)),
    ],
)
async def test_every_error_of_alpaca_ends_the_stream_for_good_or_for_now(
    alpaca_live: AlpacaStreamLoopback, make_alpaca_stream: MakeAlpaca, code: int, is_final: bool
) -> None:
    async with make_alpaca_stream().open(AAPL) as stream:
        alpaca_live.publish([alpaca_live.error(code)])
        stream.decode(await stream.receive(), RECV_NS)
        notice = stream.notices[-1]
        assert notice.error is not None
        with pytest.raises(ConfigurationError if is_final else StreamEndedError) as caught:
            raise_for(notice)
    assert str(code) in caught.value.what
    assert caught.value.next_step


async def test_a_wrong_key_is_refused_for_good_and_never_said(
    alpaca_live: AlpacaStreamLoopback, make_alpaca_stream: MakeAlpaca
) -> None:
    from pydantic import SecretStr

    with pytest.raises(ConfigurationError, match="402") as caught:
        async with make_alpaca_stream(secret_key=SecretStr("wrong-and-secret")).open(AAPL):
            pass
    assert caught.value.code == "provider_key_refused"
    assert "wrong-and-secret" not in str(caught.value)


async def test_a_second_connection_of_the_same_key_is_refused_for_now(
    alpaca_live: AlpacaStreamLoopback, make_alpaca_stream: MakeAlpaca
) -> None:
    async with make_alpaca_stream().open(AAPL):
        with pytest.raises(StreamEndedError, match="406") as caught:
            async with make_alpaca_stream().open(AAPL):
                pass
    assert not caught.value.blames_provider
    assert "other program" in caught.value.next_step


async def test_more_symbols_than_the_plan_has_are_refused_with_what_to_do(
    alpaca_live: AlpacaStreamLoopback, make_alpaca_stream: MakeAlpaca
) -> None:
    alpaca_live.symbols_max = 1
    with pytest.raises(ConfigurationError, match="fewer symbols"):
        async with make_alpaca_stream().open(StreamRequest(("AAPL", "MSFT"))):
            pass


async def test_an_answer_that_is_no_alpacas_is_told(make_alpaca_stream: MakeAlpaca) -> None:
    # An adapter that asks for JSON of a server that speaks MessagePack.
    adapter = make_alpaca_stream(encoding="json")
    from neural_trader_tools.market.providers import alpaca_stream as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module.CONTENT_TYPES, "json", "application/msgpack")
        with pytest.raises(StreamEndedError, match="not what it documents"):
            async with adapter.open(AAPL):
                pass


# Massive


async def test_massives_own_client_signs_in_subscribes_and_hears_every_kind_of_message(
    massive_live: MassiveStreamLoopback, peer: Callable[[str], Any]
) -> None:
    client = peer("massive").WebSocketClient(
        api_key=massive_service.KEY,
        feed=f"127.0.0.1:{massive_live.port}",
        secure=False,
        subscriptions=["T.AAPL", "Q.AAPL", "AM.AAPL", "A.AAPL"],
    )
    heard: list[Any] = []
    done = asyncio.Event()

    async def handle(messages: list[Any]) -> None:
        heard.extend(messages)
        done.set()

    running = asyncio.create_task(client.connect(handle))
    await anyio.to_thread.run_sync(
        massive_live.wait_until,
        lambda: bool(massive_live.sessions and len(massive_live.sessions[0].channels) == 4),
    )
    await anyio.to_thread.run_sync(
        massive_live.publish,
        [
            massive_stream.trade("AAPL", 190.25, T_MS, 7),
            massive_stream.quote("AAPL", 190.0, 190.5, T_MS),
            massive_stream.aggregate("AAPL", 190.0, T_MS),
            massive_stream.aggregate("AAPL", 190.0, T_MS, "A"),
        ],
    )
    await asyncio.wait_for(done.wait(), 20)
    assert [type(one).__name__ for one in heard] == ["EquityTrade", "EquityQuote", "EquityAgg", "EquityAgg"]
    assert (heard[0].price, heard[0].timestamp, heard[1].ask_price) == (190.25, T_MS, 190.5)
    await client.close()
    await asyncio.wait_for(running, 20)


async def test_our_adapter_hears_massives_trades_quotes_and_aggregates(
    massive_live: MassiveStreamLoopback, make_massive_stream: MakeMassive
) -> None:
    async with make_massive_stream().open(AAPL) as stream:
        assert massive_live.sessions[0].channels == {"T": {"AAPL"}, "Q": {"AAPL"}, "AM": {"AAPL"}}
        fractional = massive_stream.trade("AAPL", 190.25, T_MS, 8, 0) | {"ds": "0.125"}
        massive_live.publish(
            [
                massive_stream.trade("AAPL", 190.25, T_MS, 7),
                massive_stream.quote("AAPL", 190.0, 190.5, T_MS),
                massive_stream.aggregate("AAPL", 190.0, T_MS),
                massive_stream.aggregate("AAPL", 190.0, T_MS, "A"),
                fractional,
                {"ev": "LULD", "T": "AAPL"},
                {"ev": "T", "sym": "AAPL", "p": None, "s": 1, "t": T_MS},
            ]
        )
        events = stream.decode(await stream.receive(), RECV_NS)
    at = T_MS * 1_000_000
    values = (190.0, 191.9, 188.1, 190.0, 1000.0)
    assert events[:1] == [event for event in events if isinstance(event, Quarantined)]
    assert events[1:] == [
        Trade("AAPL", 190.25, 100.0, at, RECV_NS, "7", "4", ("0", "12")),
        Quote("AAPL", 190.0, 3.0, 190.5, 5.0, at, RECV_NS, "4"),
        BarTick("AAPL", "1m", *values, at, RECV_NS),
        BarTick("AAPL", "1s", *values, at, RECV_NS),
        Trade("AAPL", 190.25, 0.125, at, RECV_NS, "8", "4", ("0", "12")),
    ]


async def test_massive_refuses_a_wrong_key_and_a_plan_for_good_and_a_second_connection_for_now(
    massive_live: MassiveStreamLoopback, make_massive_stream: MakeMassive
) -> None:
    from pydantic import SecretStr

    with pytest.raises(ConfigurationError, match="auth_failed"):
        async with make_massive_stream(api_key=SecretStr("wrong-and-secret")).open(AAPL):
            pass
    massive_live.topics = {"AM"}
    with pytest.raises(ConfigurationError, match="not authorized"):
        async with make_massive_stream().open(AAPL):
            pass
    only_bars = StreamRequest(("AAPL",), ("bars",))
    async with make_massive_stream().open(only_bars):
        with pytest.raises(StreamEndedError, match="max_connections"):
            async with make_massive_stream().open(only_bars):
                pass


# Both


async def test_a_frame_beyond_the_bound_ends_the_connection_unread(
    massive_live: MassiveStreamLoopback, make_massive_stream: MakeMassive
) -> None:
    async with make_massive_stream(frame_bytes_max=2048).open(AAPL) as stream:
        massive_live.send("[" + " " * 100_000_000 + "]")
        with pytest.raises(StreamEndedError, match="2048") as caught:
            await stream.receive()
    assert caught.value.code == "stream_frame_too_long"


@pytest.mark.parametrize(
    "frame",
    [b"\x91" * 200_000, b"\x93\x81\xa1", b"\xc1", b"", b"\x91\x81\xa1T\xa1t", b"\xdd\xff\xff\xff\xff"],
)
async def test_garbage_and_cut_or_deep_messagepack_are_refused_and_never_crash(
    alpaca_live: AlpacaStreamLoopback, make_alpaca_stream: MakeAlpaca, frame: bytes
) -> None:
    async with make_alpaca_stream().open(AAPL) as stream:
        await _refuses(stream, frame)


@pytest.mark.parametrize("frame", [b"[" * 200_000, b'[{"ev":"T"', b"\xff\xfe", b"7", b'{"ev":"T"}'])
async def test_garbage_and_cut_or_deep_json_are_refused_and_never_crash(
    massive_live: MassiveStreamLoopback, make_massive_stream: MakeMassive, frame: bytes
) -> None:
    async with make_massive_stream().open(AAPL) as stream:
        await _refuses(stream, frame)


async def _refuses(stream: Stream, frame: bytes) -> None:
    try:
        events = stream.decode(frame, RECV_NS)
    except (NeuralTraderError, msgspec.MsgspecError, ValueError, RecursionError):
        return
    assert events
    assert all(isinstance(event, Quarantined) for event in events)


async def test_a_connection_that_falls_or_is_refused_ends_for_now(
    alpaca_live: AlpacaStreamLoopback, make_alpaca_stream: MakeAlpaca
) -> None:
    async with make_alpaca_stream().open(AAPL) as stream:
        alpaca_live.drop()
        with pytest.raises(StreamEndedError, match="ended the connection"):
            await stream.receive()
    for status, error in ((429, StreamEndedError), (503, StreamEndedError), (404, ConfigurationError)):
        alpaca_live.statuses = [status]
        with pytest.raises(error, match=str(status)):
            async with make_alpaca_stream().open(AAPL):
                pass
    with pytest.raises(StreamEndedError, match="cannot be reached"):
        async with make_alpaca_stream(stream_url="ws://127.0.0.1:9").open(AAPL):
            pass


async def test_without_a_key_or_with_a_symbol_of_nobody_nothing_is_sent(
    alpaca_live: AlpacaStreamLoopback, make_alpaca_stream: MakeAlpaca, make_massive_stream: MakeMassive
) -> None:
    with pytest.raises(ConfigurationError, match="no API key"):
        make_alpaca_stream(key_id=None).check(AAPL)
    with pytest.raises(ConfigurationError, match="no API key"):
        make_massive_stream(api_key=None).check(AAPL)
    for symbols in ((), ("aapl",), ("AAPL", "T.*"), ("\uff21",)):
        with pytest.raises(InputError):
            make_alpaca_stream().check(StreamRequest(symbols))
    make_alpaca_stream().check(StreamRequest(("*",)))
    assert alpaca_live.connected == 0


def test_a_notice_without_an_error_is_only_said() -> None:
    raise_for(Notice("subscribed"))
