from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.tiles import export, tile_path
from neural_trader_governance.audit.verify import verify_export
from neural_trader_governance.errors import IntegrityError, StorageError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store


def _fill(store: Store, caller: Caller, count: int) -> None:
    with store.unit() as unit:
        for number in range(count):
            unit.append(AuditEntry.by(caller, EntryType.RECON, payload={"number": number}))


def _files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("kind", "index", "width", "path"),
    [
        ("0", 0, 256, "tile/0/000"),
        ("entries", 5, 256, "tile/entries/005"),
        ("0", 1234067, 256, "tile/0/x001/x234/067"),
        ("1", 1000, 7, "tile/1/x001/000.p/7"),
    ],
)
def test_paths_are_those_of_the_specification(kind: str, index: int, width: int, path: str) -> None:
    assert tile_path(kind, index, width) == path


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 700])
def test_an_export_of_any_size_verifies(store: Store, caller: Caller, tmp_path: Path, size: int) -> None:
    _fill(store, caller, size)
    done = export(store, tmp_path / "out")
    report = verify_export(tmp_path / "out", store.vkey)
    assert (report.ok, report.size, report.root) == (True, size, store.head().root_hex)
    assert (done.size, done.root_hex) == (size, report.root)
    assert (tmp_path / "out" / "log.vkey").read_text().strip() == store.vkey


def test_exports_grow_in_steps_into_what_one_export_writes(
    store: Store, caller: Caller, tmp_path: Path
) -> None:
    for step in (3, 253, 1, 300, 0):
        _fill(store, caller, step)
        done = export(store, tmp_path / "grown")
        assert verify_export(tmp_path / "grown", store.vkey).ok
    assert done.files_written < 8
    export(store, tmp_path / "whole")
    grown, whole = _files(tmp_path / "grown"), _files(tmp_path / "whole")
    assert {name: digest for name, digest in grown.items() if name in whole} == whole
    assert all(".p/" in name for name in grown.keys() - whole.keys())


def test_an_export_that_stops_before_its_checkpoint_leaves_the_old_one_whole(
    store: Store, caller: Caller, tmp_path: Path
) -> None:
    _fill(store, caller, 100)
    export(store, tmp_path / "out")
    _fill(store, caller, 300)
    obstacle = tmp_path / "out" / ".checkpoint.new"
    obstacle.mkdir()
    with pytest.raises(StorageError, match="export_failed"):
        export(store, tmp_path / "out")
    report = verify_export(tmp_path / "out", store.vkey)
    assert (report.ok, report.size) == (True, 100)
    obstacle.rmdir()
    export(store, tmp_path / "out")
    report = verify_export(tmp_path / "out", store.vkey)
    assert (report.ok, report.size) == (True, 400)


def test_every_flipped_byte_of_an_export_is_noticed_and_entries_are_named(
    store: Store, caller: Caller, tmp_path: Path
) -> None:
    _fill(store, caller, 260)
    export(store, tmp_path / "out")
    for path in sorted((tmp_path / "out").rglob("*")):
        if not path.is_file() or path.name == "log.vkey":
            continue
        whole = path.read_bytes()
        for position in range(0, len(whole), 1 if path.name == "checkpoint" else max(1, len(whole) // 12)):
            altered = bytearray(whole)
            altered[position] ^= 1
            path.write_bytes(altered)
            report = verify_export(tmp_path / "out", store.vkey)
            assert not report.ok, (path, position)
            if "entries" in str(path):
                assert report.problems[0].seq is not None
        path.write_bytes(whole)
    assert verify_export(tmp_path / "out", store.vkey).ok


def test_a_missing_or_shortened_file_is_named(store: Store, caller: Caller, tmp_path: Path) -> None:
    _fill(store, caller, 260)
    export(store, tmp_path / "out")
    for name in ("tile/entries/000", "tile/entries/001.p/4", "tile/0/001.p/4", "tile/1/000.p/1"):
        path = tmp_path / "out" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        assert name in " ".join(p.what for p in verify_export(tmp_path / "out", store.vkey).problems)
        path.unlink()
        assert name in " ".join(p.what for p in verify_export(tmp_path / "out", store.vkey).problems)
        path.write_bytes(whole)


def test_an_export_does_not_vouch_for_itself(store: Store, caller: Caller, tmp_path: Path) -> None:
    _fill(store, caller, 3)
    export(store, tmp_path / "out")
    pinned = SigningKey.generate("desk.example/log").vkey
    report = verify_export(tmp_path / "out", pinned)
    assert not report.ok
    assert "not signed by" in report.problems[0].what


def test_a_folder_of_another_history_is_not_overwritten(
    store: Store, open_store: Callable[..., Store], caller: Caller, tmp_path: Path
) -> None:
    other = open_store(path=tmp_path / "other.db")
    _fill(store, caller, 3)
    with other.unit() as unit:
        unit.append(AuditEntry.by(caller, EntryType.RECON, payload={"another": "history"}))
    export(other, tmp_path / "out")
    before = _files(tmp_path / "out")
    with pytest.raises(IntegrityError, match="export_diverged"):
        export(store, tmp_path / "out")
    assert _files(tmp_path / "out") == before


def test_a_folder_without_an_export_or_a_place_for_one_is_said(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="export_missing"):
        verify_export(tmp_path, store.vkey)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="export_failed"):
        export(store, tmp_path / "file")
