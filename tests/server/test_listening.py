"""Listening: what a connection that our sockets accept is like."""

import asyncio
import socket

import pytest

from neural_trader_server.listening import bind


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("shared", [False, True])
def test_an_answer_in_two_packets_does_not_wait_for_an_acknowledgement(host: str, shared: bool) -> None:
    """Without TCP_NODELAY every answer on a connection that stays open would come 40 ms late."""
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("this host has no IPv6")

    async def accepted() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection: socket.socket = writer.get_extra_info("socket")
            found.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = bind(host, 0, shared=shared)
        async with await asyncio.start_server(serve, sock=listener):
            _, writer = await asyncio.open_connection(host, listener.getsockname()[1])
            told = await found
            writer.close()
        return told

    assert asyncio.run(accepted()) != 0
