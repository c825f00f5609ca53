"""A verifier that is not ours checks our exports: Go's `sumdb/note` and `sumdb/tlog` (`go/main.go`)."""

import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.key_files import KeyFiles, rotate_log_key
from neural_trader_governance.audit.tiles import export
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock

ORIGIN = "neural-trader.test/interop"
FIRST, LAST = 200, 600
Check = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def check(build_go: Callable[[str], Callable[..., "subprocess.CompletedProcess[bytes]"]]) -> Check:
    """Returns what runs the program."""
    program = build_go("main.go")

    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        done = program(*arguments)
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    return run


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """An export that grew over a key rotation: the folder above it, the old and the new verifier key."""
    home = tmp_path_factory.mktemp("interop")
    (home / "keys").mkdir()
    files = KeyFiles(home / "keys")
    SigningKey.generate(ORIGIN).save(files.key)
    clock = SimulatedClock(datetime(2026, 11, 22, tzinfo=UTC))
    with Store.open(home / "desk.db", origin=ORIGIN, signer=files.signer(), clock=clock) as store:
        old = store.vkey
        _fill(store, FIRST)
        export(store, home / "trail")
        (home / "earlier").write_bytes((home / "trail" / "checkpoint").read_bytes())
        rotated = rotate_log_key(store, files, caller=Caller("owner", ""), overlap_entries=10)
        files.enable_mldsa()
        _fill(store, LAST)
        export(store, home / "trail")
    return home, old, rotated.new_vkey


def _fill(store: Store, upto: int) -> None:
    while (size := store.head().size) < upto:
        with store.unit() as unit:
            for number in range(size, min(size + 50, upto)):
                entry = AuditEntry.by(Caller("owner", "agent-1"), EntryType.KILL, payload={"number": number})
                unit.append(entry)


def _copy(exported: tuple[Path, str, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported[0] / "trail", tmp_path / "trail"))


def test_go_accepts_signature_consistency_inclusion_and_the_full_replay(
    exported: tuple[Path, str, str], check: Check
) -> None:
    home, old, new = exported
    found = check("-vkey", old, "-vkey", new, "-earlier", home / "earlier", home / "trail")
    assert found.returncode == 0, found.stdout + found.stderr
    for line in (
        f"checkpoint: {ORIGIN}, {LAST} entries",
        f"replay: {LAST} entries make up the signed root",
        "tiles: 4 of them hold the hashes of the entries",
        f"inclusion: {LAST} entries proven",
        f"consistency: the log grew from {FIRST} to {LAST} entries",
        "WHOLE",
    ):
        assert line in found.stdout
    assert check("-vkey", new, "-prove", 599, home / "trail").returncode == 0


def test_go_refuses_a_key_that_did_not_sign_and_arguments_that_say_too_little(
    exported: tuple[Path, str, str], check: Check
) -> None:
    home, old, new = exported
    stranger = SigningKey.generate(ORIGIN).vkey
    found = check("-vkey", stranger, home / "trail")
    assert (found.returncode, "no verifiable signatures" in found.stdout) == (1, True)
    assert check("-vkey", old, home / "trail").returncode == 1, "after the overlap only the new key signs"
    found = check("-vkey", new, "-earlier", home / "earlier", home / "trail")
    assert (found.returncode, "earlier checkpoint" in found.stdout) == (1, True)
    assert check("-vkey", new, "-prove", LAST, home / "trail").returncode == 1
    assert check(home / "trail").returncode == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("checkpoint", "NOT WHOLE"),
        ("tile/entries/000", "NOT WHOLE"),
        ("tile/entries/002.p/88", "NOT WHOLE"),
        ("tile/0/001", "does not hold the hashes"),
        ("tile/1/000.p/2", "does not hold the hashes"),
    ],
)
def test_go_refuses_an_export_with_a_byte_flipped_cut_off_or_added(
    exported: tuple[Path, str, str], check: Check, tmp_path: Path, name: str, says: str
) -> None:
    folder, vkey = _copy(exported, tmp_path), exported[2]
    assert check("-vkey", vkey, folder).returncode == 0
    path = folder / name
    whole = path.read_bytes()
    # In a checkpoint, its last signature lines may be those of keys that nobody asked for.
    middle = whole.index(b"\n\n") // 2 if name == "checkpoint" else len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for altered in (flipped, whole[: len(whole) // 3], whole + b"x"):
        path.write_bytes(altered)
        found = check("-vkey", vkey, folder)
        assert (found.returncode, says in found.stdout) == (1, True), found.stdout
    path.unlink()
    assert check("-vkey", vkey, folder).returncode == 1
