"""Keys that change under the feet of eight processes: nobody stops, nothing is lost, no key either."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from neural_trader_governance.audit.key_files import KeyFiles
from neural_trader_governance.audit.rotation import read_chain
from neural_trader_governance.audit.verify import verify_store
from neural_trader_governance.signing.keys import SigningKey

PROGRAM = Path(__file__).with_name("rotating_process.py")
APPENDS, ROTATIONS = 120, 5


def test_eight_processes_append_while_two_of_them_rotate_the_key_against_each_other(
    tmp_path: Path, signer: SigningKey
) -> None:
    (tmp_path / "keys").mkdir()
    files = KeyFiles(tmp_path / "keys")
    signer.save(files.key)
    files.vkey.write_text(f"{signer.vkey}\n")
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, str(PROGRAM), str(tmp_path), f"person-{number}"),
                *(str(APPENDS), str(ROTATIONS if number < 2 else 0)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, [errors[-600:] for _, errors in ended]
    acknowledged = [line.split() for out, _ in ended for line in out.splitlines()]
    assert len(acknowledged) == 8 * APPENDS
    with closing(sqlite3.connect(tmp_path / "desk.db")) as connection:
        leaves = dict(connection.execute("SELECT seq, lower(hex(leaf_hash)) FROM audit_entries"))
        chain = read_chain(connection, signer.name, signer.verifying_key)
    assert all(leaves[int(seq)] == leaf for seq, leaf in acknowledged)
    assert len(leaves) == 8 * APPENDS + 2 * ROTATIONS
    assert len(chain.keys) == 1 + 2 * ROTATIONS
    # Every pin that ever was verifies; the home's own is that of the key in force; every key is at hand.
    for key in chain.keys:
        assert verify_store(tmp_path / "desk.db", key).ok
        assert KeyFiles(tmp_path / "keys").find(key) is not None
    assert files.vkey.read_text().strip() == chain.current.vkey == SigningKey.load(files.key).vkey
    assert not files.next.exists()
    assert not list((tmp_path / "keys").glob(".*"))
