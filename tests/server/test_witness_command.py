"""The witness as its own process, and servers that answer to it: the whole way, over HTTP."""

import contextlib
import json
import os
import re
import shutil
import signal
import socketserver
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import anyio
import httpx
import pytest

from neural_trader_governance.audit import witnessing
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.witnessing import NEVER_S, WitnessStanding
from neural_trader_governance.errors import ConfigurationError, IntegrityError, NetworkError
from neural_trader_server import witness_sources
from neural_trader_server.app import open_desk
from neural_trader_server.home import Home
from neural_trader_server.listening import running
from neural_trader_server.settings import Settings
from neural_trader_server.witness_service import locate_witness, open_witness
from neural_trader_server.witness_sources import HttpWitness

Command = Callable[..., "CompletedProcess[str]"]


@dataclass
class Running:
    """A witness that serves."""

    folder: Path
    url: str
    process: "subprocess.Popen[str]"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0

    def close(self) -> None:
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()


def serve(starter: Any, folder: Path, *words: str, home: Path, port: int = 0) -> Running:
    base = {name: value for name, value in os.environ.items() if not name.startswith("NEURAL_TRADER_")}
    process = starter.popen(
        *("witness", "serve", "--folder", str(folder), "--port", str(port), *words),
        environment=base | {"NEURAL_TRADER_HOME": str(home), "NEURAL_TRADER_LOG_FORMAT": "json"},
    )
    assert process.stderr is not None
    said = ""
    while "witnessing" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    found = re.search(r"http://127\.0\.0\.1:\d+", said)
    assert found is not None
    return Running(folder, found[0], process)


@pytest.fixture
def running_witness(home: Home, tmp_path: Path, starter: Any) -> Iterator[Running]:
    witness = serve(starter, tmp_path / "witness", "--log-vkey", str(home.log_vkey), home=home.path)
    yield witness
    if witness.process.poll() is None:
        witness.stop()
    witness.close()


def put_back(copy: Path, home: Home) -> None:
    for path in home.path.glob("desk.db*"):
        path.unlink()
    shutil.copyfile(copy, home.desk_db)


def start_a_server(home: Home, *, append: int = 0) -> WitnessStanding:
    """Starts what a server starts and returns what policy sees before the first tool call."""

    async def run() -> WitnessStanding:
        async with open_desk(home, Settings()) as services:
            for number in range(append):
                with services.store.unit() as unit:
                    entry = AuditEntry.by(services.person, EntryType.RECON, payload={"number": number})
                    unit.append(entry)
            async with running(services):
                return services.cosigner.standing()

    return anyio.run(run)


def forget_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started next is another process, as far as witnessing can tell."""
    monkeypatch.setattr(witnessing, "RUN", os.urandom(4).hex())


def test_the_three_commands_of_the_documentation_and_what_status_then_says(
    home: Home, running_witness: Running, command: Command
) -> None:
    assert command("witness", "status").returncode == 1  # nothing is pinned
    pinned = command(
        "witness", "pin", str(running_witness.folder / "witness.vkey"), "--url", running_witness.url
    )
    assert pinned.returncode == 0, pinned.stderr
    never = json.loads(command("witness", "status", "--json").stdout)
    assert (never["ok"], never["witness_size"]) == (False, None)
    cosigned = json.loads(command("witness", "cosign", "--json").stdout)
    status = command("witness", "status", "--json")
    facts = json.loads(status.stdout)
    assert status.returncode == 0
    assert facts["ok"] is facts["agree"] is True
    assert facts["witness_size"] == facts["desk_size"] == cosigned["size"]
    listed = command(
        "witness", "status", "--folder", str(running_witness.folder), "--json", NEURAL_TRADER_HOME="/nowhere"
    )
    assert json.loads(listed.stdout)["logs"][0]["size"] == cosigned["size"]
    verified = command("audit", "verify", "--witness-state", running_witness.url, "--json")
    assert json.loads(verified.stdout)["ok"] is True


def test_a_desk_that_was_put_back_is_refused_at_the_next_start_and_named_by_every_command(
    home: Home,
    running_witness: Running,
    here: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before_the_pin, after_it = tmp_path / "unpinned.db", tmp_path / "pinned.db"

    async def copy(path: Path) -> None:
        async with open_desk(home, Settings()) as services:
            services.store.snapshot(path)

    anyio.run(copy, before_the_pin)
    vkey = str(running_witness.folder / "witness.vkey")
    assert here("witness", "pin", vkey, "--url", running_witness.url).returncode == 0
    anyio.run(copy, after_it)
    assert start_a_server(home, append=5).age_s == 0
    for copied, traded_on in ((after_it, 0), (before_the_pin, 0), (after_it, 40), (before_the_pin, 40)):
        put_back(copied, home)
        forget_this_process(monkeypatch)
        standing = start_a_server(home, append=traded_on)
        assert standing.required
        assert not standing.consistent
        assert standing.age_s == NEVER_S
    for words in (
        ("witness", "cosign"),
        ("doctor",),
        ("witness", "status"),
        ("audit", "verify", "--witness-state", running_witness.url),
    ):
        ended = here(*words)
        assert ended.returncode == 1, words
    assert "entries" in here("witness", "status").stdout


def test_a_witness_that_is_silent_at_the_start_is_never_taken_for_a_yes(
    home: Home, running_witness: Running, here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    vkey = str(running_witness.folder / "witness.vkey")
    here("witness", "pin", vkey, "--url", running_witness.url)
    assert start_a_server(home).age_s < 60
    running_witness.stop()
    forget_this_process(monkeypatch)
    standing = start_a_server(home)
    assert (standing.required, standing.consistent, standing.age_s) == (True, True, NEVER_S)
    ended = here("witness", "cosign")
    assert ended.returncode == 1
    assert "witness_unreachable" in ended.stderr


def test_a_witness_that_was_killed_remembers_what_it_cosigned(
    home: Home, running_witness: Running, command: Command, starter: Any
) -> None:
    command("witness", "pin", str(running_witness.folder / "witness.vkey"), "--url", running_witness.url)
    first = json.loads(command("witness", "cosign", "--json").stdout)
    running_witness.process.kill()
    running_witness.process.wait(30)
    again = serve(starter, running_witness.folder, home=home.path)
    try:
        origin = home.log_vkey.read_text().partition("+")[0]
        body = f"old 0\n\n{httpx.get(f'{again.url}/{_hash(origin)}/checkpoint').text}"
        conflict = httpx.post(f"{again.url}/add-checkpoint", content=body.encode())
        assert (conflict.status_code, conflict.text) == (409, f"{first['size']}\n")
        assert conflict.headers["content-type"] == "text/x.tlog.size"
        assert httpx.post(f"{again.url}/add-checkpoint", content=b"x" * 131_073).status_code == 413
        assert httpx.post(f"{again.url}/add-checkpoint", content=b"x" * 131_072).status_code == 400
        assert httpx.get(f"{again.url}/{_hash('nobody')}/checkpoint").status_code == 404
        assert httpx.get(f"{again.url}/add-checkpoint").status_code == 405
    finally:
        again.stop()
        again.close()


def test_a_server_keeps_its_log_cosigned_while_it_runs(
    home: Home, running_witness: Running, here: Callable[..., Any]
) -> None:
    here("witness", "pin", str(running_witness.folder / "witness.vkey"), "--url", running_witness.url)

    async def run() -> None:
        async with open_desk(home, Settings()) as services, running(services):
            with services.store.unit() as unit:
                unit.append(AuditEntry.by(services.person, EntryType.RECON, payload={}))
            with anyio.fail_after(30):
                while services.cosigner.standing().size != services.store.head().size:
                    await anyio.lowlevel.checkpoint()
            assert services.cosigner.standing().consistent

    anyio.run(run)


def test_a_key_folder_that_names_another_witness_than_the_record_is_not_believed(
    home: Home, running_witness: Running, here: Callable[..., Any], tmp_path: Path
) -> None:
    here("witness", "pin", str(running_witness.folder / "witness.vkey"), "--url", running_witness.url)
    other = open_witness(tmp_path / "another-witness")
    home.witness_vkey.write_text(f"{other.key.vkey}\n")
    other.close()
    ended = here("witness", "cosign")
    assert ended.returncode == 1
    assert "two different witnesses" in ended.stderr


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("DELETE FROM audit_witness", "than the log's own entries pin"),
        ("UPDATE audit_witness SET vkey = ?", "than the log's own entries pin"),
    ],
)
def test_a_table_written_behind_the_logs_back_does_not_end_the_duty_to_be_witnessed(
    home: Home, running_witness: Running, here: Callable[..., Any], tmp_path: Path, written: str, says: str
) -> None:
    here("witness", "pin", str(running_witness.folder / "witness.vkey"), "--url", running_witness.url)
    assert here("witness", "cosign").returncode == 0
    own = open_witness(tmp_path / "own-witness")
    with sqlite3.connect(home.desk_db) as connection:
        connection.execute(written, (own.key.vkey,) if "?" in written else ())
    connection.close()
    home.witness_vkey.unlink()  # and the file with it
    own.close()
    standing = start_a_server(home)
    assert (standing.required, standing.consistent) == (True, False)
    assert says in here("witness", "status").stdout
    assert here("witness", "cosign").returncode == 0, "the record's own witness still agrees"
    assert start_a_server(home).consistent


class Drips(socketserver.BaseRequestHandler):
    """Answers one byte at a time, for ever."""

    def handle(self) -> None:
        self.request.recv(65_536)
        self.request.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                self.request.sendall(b"1\r\nx\r\n")


def test_a_witness_that_answers_without_end_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Drips) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = HttpWitness(f"http://127.0.0.1:{server.server_address[1]}")
        with pytest.raises(NetworkError, match="too long"):
            source.add_checkpoint(b"x")
        monkeypatch.setattr(witness_sources, "_WHOLE_ANSWER_S", 0.0)
        with pytest.raises(NetworkError, match="takes too long"):
            source.add_checkpoint(b"x")
        server.shutdown()


def test_a_witness_keeps_out_of_the_desks_home_and_never_starts_without_its_memory(
    home: Home, tmp_path: Path, here: Callable[..., Any]
) -> None:
    for folder in (home.path, home.path / "witness"):
        with pytest.raises(ConfigurationError) as caught:
            locate_witness(folder)
        assert caught.value.code == "witness_in_home"
    folder = tmp_path / "own"
    open_witness(folder).close()
    assert (folder / "witness.key").stat().st_mode & 0o777 == 0o600
    (folder / "witness.db").unlink()
    with pytest.raises(IntegrityError) as refused:
        open_witness(folder)
    assert refused.value.code == "witness_memory_missing"
    assert here("witness", "status", "--folder", str(tmp_path / "nothing")).returncode == 1
    assert not (tmp_path / "nothing").exists()
    assert here("witness", "serve", "--folder", str(tmp_path / "x"), "--host", "0.0.0.0").returncode == 1  # noqa: S104


def _hash(origin: str) -> str:
    import hashlib

    return hashlib.sha256(origin.encode()).hexdigest()
