"""Machine code is given to a zygote's cache, and nothing that somebody put there is followed."""

import hashlib
import os
from pathlib import Path

import pytest

from neural_trader_sandbox.local.handover import give_machine_code


def compiled(root: Path, text: str = "code") -> Path:
    folder = root / "package" / "__pycache__"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("kernel.play-1.py311.nbi", "kernel.play-1.py311.1.nbc", "kernel.cpython-311.pyc"):
        (folder / name).write_text(text)
    return folder


def place(cache: Path, root: Path) -> Path:
    return cache / f"package_{hashlib.sha1(str(root / 'package').encode()).hexdigest()}"  # noqa: S324  # as numba does


def test_what_is_missing_or_older_is_copied_once_to_the_owner_of_the_cache(tmp_path: Path) -> None:
    cache, root = tmp_path / "cache", tmp_path / "root"
    compiled(root)
    assert give_machine_code([root], cache) == 2
    assert sorted(file.name for file in place(cache, root).iterdir()) == [
        "kernel.play-1.py311.1.nbc",
        "kernel.play-1.py311.nbi",
    ]
    assert {file.stat().st_uid for file in place(cache, root).iterdir()} == {cache.stat().st_uid}
    assert give_machine_code([root], cache) == 0
    later = compiled(root, "newer") / "kernel.play-1.py311.nbi"
    os.utime(later, (later.stat().st_atime, later.stat().st_mtime + 5))
    assert give_machine_code([root], cache) >= 1
    assert (place(cache, root) / later.name).read_text() == "newer"


def test_a_link_in_the_cache_is_replaced_or_refused_and_never_followed(tmp_path: Path) -> None:
    cache, root, victim = tmp_path / "cache", tmp_path / "root", tmp_path / "victim"
    compiled(root)
    victim.mkdir()
    (victim / "file").write_text("kept")
    give_machine_code([root], cache)
    planted = place(cache, root) / "kernel.play-1.py311.nbi"
    planted.unlink()
    planted.symlink_to(victim / "file")
    os.utime(planted, (0, 0), follow_symlinks=False)
    assert give_machine_code([root], cache) == 1
    assert not planted.is_symlink()
    assert (victim / "file").read_text() == "kept"
    place(cache, root).rename(tmp_path / "away")
    place(cache, root).symlink_to(victim)
    with pytest.raises(OSError, match="Not a directory"):
        give_machine_code([root], cache)
    assert [file.name for file in victim.iterdir()] == ["file"]
