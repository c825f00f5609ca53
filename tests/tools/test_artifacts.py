"""Artifacts: content-named, immutable, never outside their folder."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance.errors import InputError, IntegrityError
from neural_trader_tools.artifacts import Artifacts


@pytest.fixture
def frame() -> pl.DataFrame:
    return pl.DataFrame(
        {"event_time": [datetime(2012, 1, 3, tzinfo=UTC)] * 3, "close": [1.5, float("nan"), None]}
    )


def test_what_was_put_comes_back_equal_with_its_types(tmp_path: Path, frame: pl.DataFrame) -> None:
    artifacts = Artifacts(tmp_path / "artifacts")
    handle = artifacts.put(frame, "bars")
    assert handle.startswith("bars-")
    assert artifacts.get(handle).equals(frame)
    assert artifacts.get(handle).schema == frame.schema
    assert artifacts.handles() == [handle]


def test_the_same_frame_has_the_same_handle_and_another_frame_another(
    tmp_path: Path, frame: pl.DataFrame
) -> None:
    artifacts = Artifacts(tmp_path)
    first = artifacts.put(frame, "bars")
    assert artifacts.put(frame.clone(), "bars") == first
    assert artifacts.put(frame.with_columns(close=pl.lit(2.0)), "bars") != first
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    "handle",
    [
        "",
        "bars",
        "bars-3f2a",
        "../desk-0123456789abcdef",
        "bars-0123456789abcdef",
        "bars-0123456789ABCDEF\n",
        "ბ",
    ],
)
def test_a_handle_that_nobody_returned_is_refused(tmp_path: Path, handle: str) -> None:
    with pytest.raises(InputError) as caught:
        Artifacts(tmp_path).get(handle)
    assert caught.value.code == "unknown_handle"


@given(handle=st.text(max_size=80))
def test_no_text_reads_a_file_outside_the_folder(
    tmp_path_factory: pytest.TempPathFactory, handle: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "closed"
    with pytest.raises(InputError):
        Artifacts(folder).get(handle)


def test_a_changed_file_is_noticed(tmp_path: Path, frame: pl.DataFrame) -> None:
    artifacts = Artifacts(tmp_path)
    handle = artifacts.put(frame, "bars")
    path = tmp_path / f"{handle}.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError) as caught:
        artifacts.get(handle)
    assert caught.value.code == "artifact_changed"


def test_a_frame_above_the_cap_is_refused_and_leaves_nothing(tmp_path: Path, frame: pl.DataFrame) -> None:
    with pytest.raises(InputError) as caught:
        Artifacts(tmp_path / "a", bytes_max=100).put(frame, "bars")
    assert caught.value.code == "artifact_too_large"
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("kind", ["", "Bars", "a/b", "..", "a" * 33, "é"])
def test_a_kind_is_a_plain_word(tmp_path: Path, frame: pl.DataFrame, kind: str) -> None:
    with pytest.raises(InputError) as caught:
        Artifacts(tmp_path).put(frame, kind)
    assert caught.value.code == "invalid_kind"
