"""The wheel, in a fresh environment outside the checkout: setup and demo run from it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, home: Path, cwd: Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("NEURAL_", "PYTHON", "VIRTUAL_"))
    }
    return subprocess.run(
        [str(part) for part in command],
        env={**kept, "NEURAL_TRADER_HOME": str(home)},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, lacking: Callable[[str], NoReturn]) -> Path:
    """A fresh venv with nothing but our wheel and its pinned dependencies; returns its bin folder."""
    place = tmp_path_factory.mktemp("wheel")
    builder = shutil.which("uv", path=str(Path(sys.executable).parent))
    assert builder is not None, "uv is a development dependency: run make setup"
    built = run(  # the sdist first, then the wheel from it
        builder, "build", "--out-dir", place / "dist", ROOT, home=place, cwd=place, timeout_s=300
    )
    if built.returncode != 0 and "dns error" in built.stderr + built.stdout:
        lacking("no package registry can be reached, so the build's own dependency cannot be installed")
    assert built.returncode == 0, built.stderr
    (wheel,) = (place / "dist").glob("*.whl")
    venv = [builder, "venv", "--quiet", "--seed", "--python", sys.executable]  # with pip, as `python -m venv`
    run(*venv, place / "venv", home=place, cwd=place, timeout_s=120)
    bin_ = place / "venv" / "bin"
    install = [builder, "pip", "install", "--quiet", "--python", bin_ / "python"]
    pins = ["-c", ROOT / "constraints.txt"]
    result = run(*install, *pins, wheel, home=place, cwd=place, timeout_s=600)  # uv: half of pip's time
    assert result.returncode == 0, result.stderr
    _spare_compiling(place / "venv")
    return bin_


def _spare_compiling(venv: Path) -> None:
    """Lays machine code that this checkout has beside the same sources of the wheel: a minute of compiling.

    Numba takes it only where the source's digest is the same, so what the wheel ships is still what runs.
    """
    [installed] = venv.glob("lib/python*/site-packages/neural_trader_tools")
    for file in (ROOT / "tools" / "neural_trader_tools").rglob("__pycache__/*.nb[ic]"):
        to = installed / file.relative_to(ROOT / "tools" / "neural_trader_tools")
        to.parent.mkdir(exist_ok=True)
        shutil.copy2(file, to)


def test_setup_and_demo_run_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    setup = run(installed / "neural-trader", "setup", "--json", home=home, cwd=tmp_path, timeout_s=300)
    assert setup.returncode == 0, setup.stderr
    demo = run(installed / "neural-trader", "demo", "--json", home=home, cwd=tmp_path, timeout_s=180)
    document = json.loads(demo.stdout)
    failed = [step for step in document["steps"] if not step["ok"]]
    assert demo.returncode == 0, (failed, demo.stderr[-2000:])
    assert document["ok"] is True
    assert len(document["steps"]) >= 8
