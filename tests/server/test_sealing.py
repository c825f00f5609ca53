"""Sealing: what one process of a home seals, each other opens for the same caller, and nobody else does."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mcp.server.request_state import InvalidRequestState

from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.identity import Caller
from neural_trader_server.calling import SCOPE_KEY
from neural_trader_server.home import Home
from neural_trader_server.sealing import derive, request_states


def test_processes_that_begin_at_once_on_a_new_home_have_one_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        keys = set(threads.map(derive, [Home(tmp_path)] * 64, ["x"] * 64))
    assert len(keys) == 1
    (kept,) = list((tmp_path / "keys").iterdir())
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert derive(Home(tmp_path), "y") not in keys, "a key for one purpose is for no other"
    assert derive(Home(tmp_path / "other"), "x") not in keys
    assert kept.read_bytes() not in keys


def test_one_worker_opens_what_another_sealed_and_a_stranger_does_not(tmp_path: Path) -> None:
    sealed = request_states(Home(tmp_path)).codec.seal(b"asked")
    assert request_states(Home(tmp_path)).codec.unseal(sealed) == b"asked"
    with pytest.raises(InvalidRequestState):
        request_states(Home(tmp_path / "other")).codec.unseal(sealed)
    changed = sealed[:-2] + ("A" if sealed[-2] != "A" else "B") + sealed[-1]
    with pytest.raises(InvalidRequestState):
        request_states(Home(tmp_path)).codec.unseal(changed)


def test_a_state_is_its_callers(tmp_path: Path) -> None:
    def from_caller(caller: Caller | None) -> Any:
        return SimpleNamespace(request=SimpleNamespace(scope={SCOPE_KEY: caller}))

    bound = request_states(Home(tmp_path)).bind_principal
    assert bound is not None
    whose = [bound(from_caller(caller)) for caller in (Caller("a", "b"), Caller("b", "a"), Caller("a", "c"))]
    assert len(set(whose)) == 3
    assert bound(from_caller(None)) is None, "stdio has one client"


def test_a_secret_that_others_may_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    derive(Home(tmp_path), "x")
    secret = tmp_path / "keys/http.secret"
    secret.chmod(0o640)
    with pytest.raises(ConfigurationError, match="secret_unusable"):
        derive(Home(tmp_path), "x")
    secret.chmod(0o600)
    secret.write_bytes(b"short")
    with pytest.raises(ConfigurationError, match="secret_unusable"):
        derive(Home(tmp_path), "x")
