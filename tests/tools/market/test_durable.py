"""Durable files: a disk that is full leaves what was there, and says so whatever is written."""

import resource
from pathlib import Path

import polars as pl
import pytest

from neural_trader_governance.errors import StorageError
from neural_trader_tools.market.durable import write_parquet_durably


def test_a_table_that_does_not_fit_leaves_the_former_one(tmp_path: Path) -> None:
    file = tmp_path / "table.parquet"
    write_parquet_durably(file, pl.DataFrame({"a": [1]}))
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, former[1]))
    try:
        with pytest.raises(StorageError) as refused:
            write_parquet_durably(file, pl.DataFrame({"a": [str(number) * 9 for number in range(9000)]}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert refused.value.code == "write_failed"
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]
    assert pl.read_parquet(file).rows() == [(1,)]
