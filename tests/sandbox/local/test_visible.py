"""What a zygote is shown: found from the running interpreter, and never a home folder."""

import os
import sys
from pathlib import Path

import numpy
import pytest

from neural_trader_governance.errors import ConfigurationError
from neural_trader_sandbox.local.visible import visible


def test_the_standard_library_the_packages_and_the_preloaded_modules_are_shown() -> None:
    seen = visible(["numpy", "neural_trader_governance.errors"])
    assert any(Path(os.__file__).is_relative_to(path) for path in seen.paths)
    assert any(Path(numpy.__file__).is_relative_to(path) for path in seen.paths)
    assert any(path.endswith("neural_trader_governance") for path in seen.paths)
    assert Path(seen.own_root, "neural_trader_sandbox", "port.py").is_file()


def test_only_the_packages_that_are_named_are_shown_of_a_checkout() -> None:
    seen = visible([])
    shown = [path for path in seen.paths if "neural_trader_" in path]
    assert [os.path.basename(path) for path in shown] in (
        [],
        ["neural_trader_sandbox"],
    )  # [] in site-packages


def test_no_home_and_no_secret_place_is_shown() -> None:
    homes = (os.path.expanduser("~"), "/root", "/home", "/etc", "/run", "/var", "/proc", "/sys", "/")
    assert not set(visible(["numpy"]).paths) & set(homes)


def test_a_module_that_lies_in_a_folder_above_the_home_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "site-packages" / "someone"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site-packages")])
    with pytest.raises(ConfigurationError, match="sandbox_path_too_wide"):
        visible([])


def test_a_module_that_is_not_installed_is_named() -> None:
    with pytest.raises(ConfigurationError, match="sandbox_preload_missing: the module not_there"):
        visible(["not_there.at.all"])


def test_relative_and_missing_entries_of_the_path_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", ".", "/nonexistent", *sys.path])
    assert all(os.path.isabs(path) for path in visible(["numpy"]).sys_path)
