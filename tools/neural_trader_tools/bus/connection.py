"""A connection of nats-py that is used once; imported only where the extra `nats` is used."""

from nats.aio.client import Client


class Connection(Client):
    """nats-py's client, which tells its end even when the broker was killed in the middle of a write.

    As it is (2.16), it would write what waits into the broken connection, fail over that, and neither end its
    tasks nor call anybody. Should a later version name the step otherwise, this changes nothing.
    """

    async def _process_op_err(self, e: Exception) -> None:
        self._pending.clear()
        self._pending_data_size = 0
        await super()._process_op_err(e)
