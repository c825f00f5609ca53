"""Harmless attacks that a probe runs inside a sandbox of the service; guest side, standard library."""

import contextlib
import os
import socket
from typing import Any

METADATA = ("169.254.169.254", 80)
"""Where clouds and micro-VMs keep what is nobody else's business."""


def attack(arguments: dict[str, Any], tables: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Try each attack once.

    Args:
        arguments: `addresses` ([host, port] on the internet), `name` to resolve, `path` of a file of the
            desk and `content` that it has, `environment` that is allowed, `timeout_s` of each attempt.
        tables: None are needed.

    Returns:
        The outcome by name of the attack: ``blocked: …`` or ``open: …``.
    """
    del tables
    timeout_s = float(arguments["timeout_s"])
    reached = [host for host, port in arguments["addresses"] if _connects(host, port, timeout_s)]
    metadata = _connects(*METADATA, timeout_s)
    strange = sorted(set(os.environ) - set(arguments["environment"]))
    outcomes = {
        "internet": f"open: reached {reached}" if reached else "blocked: no address answers",
        "names": _resolves(arguments["name"]),
        "metadata": "open: it answers" if metadata else "blocked: it does not answer",
        "desk's file": _reads(arguments["path"], arguments["content"]),
        "environment": f"open: {strange}" if strange else "blocked: it holds constants only",
        "privileges": _privileges(),
    }
    return outcomes, {}


def spin(arguments: dict[str, Any], tables: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Never return."""
    del arguments, tables
    while True:
        pass


def _connects(host: str, port: int, timeout_s: float) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout_s):
        return True
    return False


def _resolves(name: str) -> str:
    # A resolver of the service may answer; an answer is a way out for a few bytes.
    try:
        found = socket.getaddrinfo(name, 443)
    except OSError as error:
        return f"blocked: {error}"
    return f"open: {found[0][4][0]}"


def _reads(path: str, content: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return "open: it can be read" if file.read() == content else "blocked: another file is there"
    except OSError as error:
        return f"blocked: {error.strerror}"


def _privileges() -> str:
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            told = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    except OSError as error:
        return f"blocked: {error.strerror}"
    return "blocked: no_new_privs" if told.get("NoNewPrivs") == "1" else "open: it may gain privileges"
