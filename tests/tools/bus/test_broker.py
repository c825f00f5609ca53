"""The bus over a broker that dies, is missing, or does not know us."""

import ipaddress
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.tools.bus.conftest import NatsServer, find_server, nats_settings
from tests.tools.bus.test_contract import batch, publish, quote, take

from neural_trader_governance.errors import ConfigurationError, NetworkError
from neural_trader_tools.bus.broker import NatsSettings
from neural_trader_tools.bus.jetstream import JetStreamBus
from neural_trader_tools.bus.port import Message, Published, Subscription
from neural_trader_tools.bus.subjects import market_tick

pytestmark = pytest.mark.anyio

SYMBOLS = ("AAPL", "BRK.B", "^GSPC")


async def go_through_kills(server: NatsServer, count: int, kills: int) -> dict[str, int]:
    """Publishes and consumes while the broker is killed again and again; returns figures.

    Raises:
        AssertionError: something acknowledged was lost, stored twice, or out of order within its subject.
    """
    bus = await JetStreamBus.open(nats_settings(server), publish_timeout_s=60)
    messages = [
        Message(market_tick("quote", symbol), quote(number, symbol), f"{symbol}-{number}")
        for number in range(count)
        for symbol in SYMBOLS
    ]
    answers: list[Published] = []
    got: dict[int, str] = {}
    deliveries = 0
    done = anyio.Event()

    async def consume(subscription: Subscription) -> None:
        nonlocal deliveries
        async for delivery in subscription:
            deliveries += 1
            got[delivery.seq] = delivery.message_id
            await delivery.ack()
            if len(got) == len(messages):
                done.set()
                return

    async def kill_again_and_again() -> None:
        for number in range(kills):
            target = len(messages) * (number + 1) // (kills + 1)
            while True:  # at moments that lie evenly in the work
                if len(answers) >= target:
                    break
                await anyio.sleep(0.002)
            server.kill()
            server.start()

    with anyio.fail_after(120):
        async with anyio.create_task_group() as tasks:
            subscription = await bus.subscribe("market.quote.>", durable="books", ack_wait_s=2, start=1)
            tasks.start_soon(consume, subscription)
            tasks.start_soon(kill_again_and_again)
            for start in range(0, len(messages), 50):
                answers += await bus.publish_all(messages[start : start + 50])
            await done.wait()
    span = await bus.span("market")
    await bus.aclose()
    assert [got[answer.seq] for answer in answers] == [message.message_id for message in messages]
    assert span.last == len(messages), "a duplicate was stored"
    seqs = [answer.seq for answer in answers]
    assert seqs == sorted(seqs), "stored out of order"
    assert deliveries == len(messages), "what was acknowledged was delivered again"
    return {
        "acknowledged": len(answers),
        "kills": kills,
        "connections": bus.broker.connections,
        "sent_again": sum(answer.duplicate for answer in answers),
    }


async def test_a_killed_broker_loses_repeats_and_reorders_nothing(own_broker: NatsServer) -> None:
    figures = await go_through_kills(own_broker, 200, 2)
    assert figures["acknowledged"] == 600
    assert figures["connections"] >= 3


@pytest.mark.slow
async def test_a_broker_killed_over_and_over_loses_nothing(own_broker: NatsServer) -> None:
    figures = await go_through_kills(own_broker, 5_000, 20)
    sys.stdout.write(f"broker killed over and over: {figures}\n")
    assert figures["acknowledged"] == 15_000


async def test_a_publisher_whose_broker_stays_away_is_told_and_can_publish_the_same_again(
    own_broker: NatsServer,
) -> None:
    bus = await JetStreamBus.open(nats_settings(own_broker), publish_timeout_s=0.5)
    await publish(bus, quote(1), "one")
    own_broker.kill()
    with pytest.raises(NetworkError, match="bus_unreachable"):
        await publish(bus, quote(2), "two")
    own_broker.start()
    with anyio.fail_after(20):
        while True:
            try:
                again = await bus.publish("market.quote.AAPL", quote(2), "two")
                break
            except NetworkError:
                continue
    assert again.seq == 2
    assert (await bus.publish("market.quote.AAPL", quote(1), "one")).duplicate
    await bus.aclose()


async def test_a_subscriber_outlives_a_broker_that_forgot_it(broker: NatsServer) -> None:
    settings = nats_settings(broker)
    bus = await JetStreamBus.open(settings)
    async with await bus.subscribe("market.>", ack_wait_s=60) as subscription:
        await bus.publish_all(batch(range(4)))
        await take(subscription, 1)
        await take(subscription, 1, ack=False)
        _, streams = await bus.broker.ready()
        name = f"neural-trader-{settings.prefix}-market"
        for consumer in await streams.consumers_info(name):
            await streams.delete_consumer(name, consumer.name)
        await bus.publish_all(batch(range(4, 8)))
        rest: set[int] = set()
        while rest != set(range(2, 9)):
            rest |= {one.seq for one in await take(subscription, 1)}
    await bus.aclose()


async def test_what_a_stranger_publishes_is_counted_and_not_delivered(broker: NatsServer) -> None:
    settings = nats_settings(broker)
    bus = await JetStreamBus.open(settings)
    async with await bus.subscribe("market.>") as subscription:
        client, _ = await bus.broker.ready()
        for subject, data in [
            ("market.quote.AAPL", b"\xff not JSON"),
            ("market.quote.AAPL", b'{"kind":"quote"}'),
            ("market.bar.AAPL.1m", b'{"kind":"gap","symbol":"","from_ns":1,"to_ns":2,"reason":""}'),
        ]:
            await client.publish(f"{settings.prefix}.{subject}", data)
        await publish(bus, quote(1), "ours")
        assert [(one.seq, one.message_id) for one in await take(subscription, 1)] == [(4, "ours")]
        assert subscription.report().refused == 3
    await bus.aclose()


async def test_two_desks_on_one_broker_do_not_hear_each_other(broker: NatsServer) -> None:
    one = await JetStreamBus.open(nats_settings(broker))
    other = await JetStreamBus.open(nats_settings(broker))
    await publish(one, quote(1), "one")
    assert (await other.span("market")).last == 0
    await one.aclose()
    await other.aclose()


async def test_a_missing_broker_is_named_with_what_to_do() -> None:
    with pytest.raises(NetworkError, match=r"bus_unreachable.*nats-server -js"):
        await JetStreamBus.open(NatsSettings(url="nats://127.0.0.1:9", connect_timeout_s=0.3))


async def test_a_missing_package_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nats.errors", None)
    monkeypatch.setitem(sys.modules, "nats", None)
    with pytest.raises(ConfigurationError, match=r"nats_missing.*neural-trader\[nats\]"):
        await JetStreamBus.open(NatsSettings())


async def test_a_broker_that_wants_a_password_is_given_it_and_refuses_others(
    tmp_path: Path, lacking: Callable[[str], NoReturn]
) -> None:
    server = NatsServer(find_server(lacking), tmp_path, "--user", "desk", "--pass", "secret-word")
    server.start()
    try:
        known = await JetStreamBus.open(nats_settings(server, user="desk", password="secret-word"))
        await publish(known, quote(1), "one")
        await known.aclose()
        with pytest.raises(ConfigurationError, match="bus_refused") as refused:
            await JetStreamBus.open(nats_settings(server, user="desk", password="wrong-word"))
        assert "wrong-word" not in str(refused.value)
    finally:
        server.kill()


@pytest.mark.parametrize(
    "url", ["nats://broker.example:4222", "http://127.0.0.1", "nats://u:p@127.0.0.1", "x"]
)
def test_a_broker_elsewhere_is_reached_encrypted_only(url: str) -> None:
    with pytest.raises(ValueError, match="a broker"):
        NatsSettings(url=url)
    assert NatsSettings(url="tls://broker.example:4222").url


def certified(folder: Path) -> list[str]:
    """Writes a certificate for 127.0.0.1 and its key; returns nats-server's options for them."""
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a broker of this test")])
    own = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(own, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return ["--tls", "--tlscert", str(folder / "certificate.pem"), "--tlskey", str(folder / "key.pem")]


async def test_an_encrypted_broker_is_believed_only_with_its_authority(
    tmp_path: Path, lacking: Callable[[str], NoReturn]
) -> None:
    server = NatsServer(find_server(lacking), tmp_path / "nats", *certified(tmp_path))
    server.start()
    url = server.url.replace("nats://", "tls://")
    try:
        known = await JetStreamBus.open(
            nats_settings(server, url=url, authority=tmp_path / "certificate.pem")
        )
        assert await publish(known, quote(1), "one") == 1
        await known.aclose()
        with pytest.raises(NetworkError, match="CERTIFICATE_VERIFY_FAILED"):
            await JetStreamBus.open(nats_settings(server, url=url, connect_timeout_s=0.5))
        with pytest.raises(ConfigurationError, match="no_authority"):
            await JetStreamBus.open(nats_settings(server, url=url, authority=tmp_path / "absent.pem"))
        with pytest.raises(ConfigurationError, match="no_credentials"):
            await JetStreamBus.open(nats_settings(server, credentials=tmp_path / "absent.creds"))
    finally:
        server.kill()


async def test_one_delivery_at_a_time_keeps_the_order_when_the_broker_dies(own_broker: NatsServer) -> None:
    bus = await JetStreamBus.open(nats_settings(own_broker), publish_timeout_s=60)
    await bus.publish_all(batch(range(30)))
    seen: list[int] = []
    async with await bus.subscribe("market.>", start=1, pending_max=1, ack_wait_s=0.5) as strict:
        with anyio.fail_after(60):
            while not seen or seen[-1] < 30:
                delivery = await strict.receive()
                seen.append(delivery.seq)
                if delivery.seq in {10, 20} and seen.count(delivery.seq) == 1:
                    own_broker.kill()
                    own_broker.start()
                await delivery.ack()
    await bus.aclose()
    assert seen == list(range(1, 31))
