"""What a zygote must see: the interpreter, the installed packages, the preloaded modules; no more.

Everything is found from the running interpreter, never assumed: a checkout, a virtual environment, a
wheel installed elsewhere, a home of mode 0700, a working directory that is gone.
"""

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neural_trader_governance.errors import ConfigurationError

_SYSTEM = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/alternatives",  # Debian's BLAS is reached through it
    "/nix/store",
    "/gnu/store",
)
_SITE_NAMES = ("site-packages", "dist-packages")
_OWN_PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Visible:
    """Paths to show read-only, the zygote's `sys.path`, and where this package is imported from."""

    paths: tuple[str, ...]
    sys_path: tuple[str, ...]
    own_root: str


def visible(preload: Sequence[str]) -> Visible:
    """Plan what the zygote sees in order to import `preload`.

    Raises:
        ConfigurationError: A module is not installed (`sandbox_preload_missing`), or it lies directly
            in a home folder (`sandbox_path_too_wide`), which would show all of it.
    """
    standard = _standard_library()
    entries = [entry for entry in sys.path if os.path.isabs(entry) and os.path.isdir(entry)]
    sites = [entry for entry in entries if os.path.basename(entry) in _SITE_NAMES]
    sites += [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    packages: list[str] = []
    roots: list[str] = []
    for name in dict.fromkeys([_OWN_PACKAGE, *(module.partition(".")[0] for module in preload)]):
        if name in sys.builtin_module_names:
            continue
        for location in _locations(name):
            roots.append(os.path.dirname(location))
            packages.append(location)
    own_root = roots[0]
    libraries = os.path.join(sys.base_exec_prefix, "lib")  # conda keeps libpython and its BLAS there
    shown = dict.fromkeys([*_SYSTEM, libraries, *standard, *sites, *packages])
    paths = [path for path in shown if os.path.exists(path)]
    wide = [path for path in paths if _holds_home(path)]
    if wide:
        raise ConfigurationError(
            "sandbox_path_too_wide",
            f"the sandbox would show {wide[0]}, which holds a home folder",
            "install the packages in a virtual environment, in a folder that holds no home",
        )
    order = [*standard, *dict.fromkeys(path for path in [*sites, *roots] if path not in standard)]
    return Visible(tuple(paths), tuple(order), own_root)


def _standard_library() -> list[str]:
    base = {
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix}),
    }
    folders = [path for path in base if os.path.isdir(path)]
    folders += [os.path.join(path, "lib-dynload") for path in folders]
    prefixes = (sys.base_prefix, sys.base_exec_prefix)
    folders += [
        entry
        for entry in sys.path
        if os.path.isabs(entry)
        and os.path.exists(entry)
        and entry.startswith(prefixes)
        and os.path.basename(entry) not in _SITE_NAMES
        and os.path.basename(entry).startswith(("python", "lib-dynload"))
    ]
    return list(dict.fromkeys(path for path in folders if os.path.exists(path)))


def _locations(name: str) -> list[str]:
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ConfigurationError(
            "sandbox_preload_missing",
            f"the module {name} is not installed, so the sandbox cannot preload it",
            "install it beside the server, or leave it out of `preload`",
        )
    if spec.submodule_search_locations is not None:
        return [os.path.abspath(path) for path in spec.submodule_search_locations]
    return [spec.origin] if spec.origin is not None and os.path.isabs(spec.origin) else []


def _holds_home(path: str) -> bool:
    homes = {os.path.expanduser("~"), "/root", "/home"}
    real = Path(os.path.realpath(path))
    return real == Path("/") or any(Path(os.path.realpath(home)).is_relative_to(real) for home in homes)
