"""Addresses of services: where a key may be sent."""

import ipaddress
from typing import Annotated
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pydantic import AfterValidator


def is_loopback(host: str) -> bool:
    """Tells whether a host name or address is this very machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_proxied(host: str) -> bool:
    """Tells whether the environment's proxy would be asked instead of this machine, over plain http."""
    proxies = getproxies()
    return bool(proxies.get("http") or proxies.get("all")) and not proxy_bypass(host)


def checked_address(url: str) -> str:
    """Returns the address, where a key may be sent to it: encrypted, or of this machine; no slash at its end.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(url)
    if not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("an address is https://host[:port][/path]")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ValueError("an address is https://, or http:// on this machine")
    return url.rstrip("/")


def checked_socket_address(url: str) -> str:
    """Returns the address of a websocket, where a key may be sent to it; no slash at its end.

    Raises:
        ValueError: it is none.
    """
    scheme, separator, rest = url.partition("://")
    if scheme not in {"wss", "ws"}:
        raise ValueError("an address is wss://, or ws:// on this machine")
    checked = checked_address(f"{'https' if scheme == 'wss' else 'http'}{separator}{rest}")
    return scheme + checked[checked.index(separator) :]


Address = Annotated[str, AfterValidator(checked_address)]
SocketAddress = Annotated[str, AfterValidator(checked_socket_address)]
