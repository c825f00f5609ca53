"""Order ids: names that nobody guesses, and the one name under which a preview can become an order."""

import secrets
import time


def random_id(prefix: str) -> str:
    """Returns a short unguessable identifier such as `pv_1c09b2e43f9a2c11`.

    It begins with the time (in 66 us, wrapping after 18 minutes), so that new ids stand together in the
    indexes that hold them: random ones would touch, and sync, another page for each order.
    """
    return f"{prefix}_{time.time_ns() >> 16 & 0xFFFFFF:06x}{secrets.token_hex(5)}"


def order_id_of(preview_id: str) -> str:
    """Returns the id of the one order that a preview can become: the venue, too, takes it only once."""
    return f"nt_{preview_id.removeprefix('pv_')}"
