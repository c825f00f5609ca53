"""The cold tier: parts move to a store, verified, and reads come out the same; or a clear error."""

import os
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from tests.tools.market.loopback.s3 import Bucket, serving

from neural_trader_governance.errors import InputError, IntegrityError, NetworkError, StorageError
from neural_trader_tools.market import tiers
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch

MakeBatch = Callable[..., Batch]
CUT = datetime(2021, 1, 1, tzinfo=UTC)


@pytest.fixture
def full(archive: Archive, batch: MakeBatch) -> Archive:
    """Three years of two symbols, compacted: 2019 and 2020 are older than the cut."""
    archive.write([batch("AAA", [float(i + 1) for i in range(900)]), batch("BBB", [5.0] * 900)])
    archive.compact()
    return archive


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def address(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with serving(bucket) as host:
        yield f"s3://desk/cold?endpoint_override={host}&scheme=http&region=us-east-1"


def everything(archive: Archive) -> list[pl.DataFrame]:
    reader = Archive(archive.root)
    return [
        reader.bars("AAA"),
        reader.bars("BBB", as_of=datetime(2020, 6, 1, tzinfo=UTC)),
        reader.scan().sort("symbol", "event_time").collect(),
    ]


def same(left: list[pl.DataFrame], right: list[pl.DataFrame]) -> bool:
    return all(one.equals(other) for one, other in zip(left, right, strict=True))


@pytest.mark.parametrize("kind", ["s3", "file"])
def test_parts_move_to_a_store_and_read_as_before(
    full: Archive, bucket: Bucket, address: str, tmp_path: Path, kind: str
) -> None:
    before, version = everything(full), full.data_version("AAA")
    told: list[float] = []
    moved = full.move_cold(address if kind == "s3" else f"file://{tmp_path}/cold/", CUT, told.append)
    assert [one.period for one in moved] == ["2019", "2020"]
    assert told == [0.5, 1.0]
    local = [path.parent.name for path in (full.root / "bars").rglob("*.parquet")]
    assert local == ["date=2021"]
    held = bucket.objects if kind == "s3" else list((tmp_path / "cold").rglob("*.parquet"))
    assert len(held) == 2
    assert same(everything(full), before)
    assert full.data_version("AAA") == version
    assert len(list((full.root / "cold").iterdir())) == 2
    assert full.move_cold(f"file://{tmp_path}/cold", CUT) == []
    bucket.objects.clear()
    assert same(everything(full), before)  # what was fetched stays


def test_imports_and_compactions_go_on_with_cold_parts(full: Archive, batch: MakeBatch, address: str) -> None:
    full.move_cold(address, CUT)
    full.write([batch("AAA", [7.5], first_day=10)])  # a correction of 2019
    full.write([batch("AAA", [9.5], first_day=900)])
    full.compact()
    reader = Archive(full.root)
    assert reader.bars("AAA")["close"][10] == 7.5
    assert reader.bars("AAA", as_of=datetime(2019, 6, 1, tzinfo=UTC))["close"][10] == 11.0
    assert reader.bars("AAA")["close"].to_list()[-1] == 9.5
    assert [bool(one.location) for one in full.parts()].count(True) == 2
    (unchanged,) = full.write([batch("AAA", [12.0], first_day=11)])
    assert unchanged.rows_unchanged == 1


def test_a_store_that_cannot_be_reached_is_a_clear_error_and_hot_data_reads_on(
    full: Archive, bucket: Bucket, address: str
) -> None:
    bucket.refuse = 403
    with pytest.raises(
        NetworkError, match=r"cold_store_unreachable: s3://desk/cold/bars.*; check the network"
    ):
        full.move_cold(address, CUT)
    assert not any(one.location for one in full.parts())
    bucket.refuse = 0
    full.move_cold(address, CUT)
    bucket.refuse = 403
    reader = Archive(full.root)
    assert reader.bars("AAA", start=CUT).height == 900 - 731
    with pytest.raises(NetworkError, match="cold_store_unreachable"):
        reader.bars("AAA")
    assert not list((full.root / "cold").glob("*"))


def test_what_a_store_returns_is_checked(full: Archive, bucket: Bucket, address: str) -> None:
    full.move_cold(address, CUT)
    name = next(iter(bucket.objects))
    bucket.objects[name] = bucket.objects[name][:-1] + b"?"
    with pytest.raises(IntegrityError, match="cold_part_damaged"):
        Archive(full.root).bars("AAA")
    assert not list((full.root / "cold").glob("*.parquet"))


def test_a_part_that_is_damaged_here_is_not_moved(full: Archive, address: str) -> None:
    (part,) = (full.root / "bars/1d/date=2019").iterdir()
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityError, match="part_damaged"):
        full.move_cold(address, CUT)
    assert part.exists()
    assert not any(one.location for one in full.parts())


def test_a_full_disk_and_a_small_cache(full: Archive, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    full.move_cold(address, CUT)

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError, match="No space left"):
            Archive(full.root).bars("AAA")
    monkeypatch.setattr(tiers, "CACHE_BYTES_MAX", max(one.size for one in full.parts()))
    assert Archive(full.root).bars("AAA").height == 900
    assert len(list((full.root / "cold").glob("*.parquet"))) == 1


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("", "invalid_store"),
        ("/mnt/cold", "invalid_store"),
        ("s3://", "invalid_store"),
        ("ftp://host/path", "invalid_store"),
        ("s3://key:secret@bucket/path", "key_in_uri"),
        ("s3://bucket/path?access_key=A&secret_key=B", "key_in_uri"),
    ],
)
def test_a_uri_that_is_none_or_holds_a_key_is_refused(full: Archive, uri: str, code: str) -> None:
    with pytest.raises(InputError, match=code) as raised:
        full.move_cold(uri, CUT)
    assert "secret@" not in str(raised.value)
