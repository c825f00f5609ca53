"""The bundle: those of our own modules that a sandbox elsewhere must have, as one zip named by its digest."""

import ast
import hashlib
import importlib.util
import io
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from neural_trader_governance.errors import ConfigurationError

PACKAGES = ("numpy", "polars", "numba")
"""What the template must bring; a module of these is never uploaded."""

_GUEST = (
    "neural_trader_sandbox.e2b.runner",
    "neural_trader_sandbox.e2b.canaries",
    "neural_trader_sandbox.script",
)
_EPOCH = (2026, 1, 1, 0, 0, 0)  # the same files make the same bytes


_START = (
    "import sys, zipfile; root = sys.argv.pop(1); zipfile.ZipFile(root + '.zip').extractall(root); "
    "sys.path.insert(0, root); from neural_trader_sandbox.e2b import runner; runner."
)
"""What runs are the contents of the zip whose digest was compared, also where it was unpacked before."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What is uploaded once for each sandbox.

    Attributes:
        data: A zip with the modules' sources at their places.
        digest: SHA-256 of the names and contents in it, in hex; not of the data, which another zlib
            compresses differently.
        modules: Their names, sorted.
    """

    data: bytes
    digest: str
    modules: tuple[str, ...]


def bundle(preload: Sequence[str]) -> Bundle:
    """Collects the guest's runner and the preloaded modules, with what they import of their own packages.

    Imports are found in the sources, also those inside functions; a string that is imported at run time
    counts where it spells out a module beside the preloaded one.

    Raises:
        ConfigurationError: A module is not installed as source (`sandbox_preload_missing`).
    """
    due = [*_GUEST, *(name for name in preload if not _is_foreign(name))]
    tops = {name.partition(".")[0] for name in due}
    found: dict[str, Path] = {}
    while due:
        name = due.pop()
        if name in found:
            continue
        path = _source(name)
        if path is None:
            raise ConfigurationError(
                "sandbox_preload_missing",
                f"the module {name} has no source file here, so it cannot be uploaded",
                "install it beside the server, or leave it out of `preload`",
            )
        found[name] = path
        parts = name.split(".")
        parents = (".".join(parts[:count]) for count in range(1, len(parts)))
        due += [parent for parent in parents if _source(parent)]  # a namespace package has no file
        due += [other for other in _mentioned(path, tops) if other not in found and _source(other)]
    archive, sources = io.BytesIO(), dict[str, bytes]()
    with zipfile.ZipFile(archive, "w") as file:
        for name, path in sorted(found.items()):
            place = name.replace(".", "/") + ("/__init__.py" if path.name == "__init__.py" else ".py")
            sources[place] = path.read_bytes()
            file.writestr(zipfile.ZipInfo(place, _EPOCH), sources[place], zipfile.ZIP_DEFLATED)
    hasher = hashlib.sha256()
    for place, source in sorted(sources.items()):
        hasher.update(f"{place}\0{len(source)}\0".encode() + source)
    return Bundle(archive.getvalue(), hasher.hexdigest(), tuple(sorted(found)))


def python_arguments(function: str, folder: str, digest: str, preload: Sequence[str]) -> list[str]:
    """The arguments that have an interpreter call a function of `runner` from a bundle that lies there.

    Args:
        function: Its name.
        folder: Of ours, with `digest`.zip in it and the cache of compiled kernels.
        digest: The bundle's.
        preload: Modules to import.
    """
    code = f"{_START}{function}()"
    return ["-s", "-P", "-B", "-c", code, f"{folder}/{digest}", f"{folder}/cache", *preload]


def _is_foreign(name: str) -> bool:
    top = name.partition(".")[0]
    return top in PACKAGES or top in sys.stdlib_module_names


def _source(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


def _mentioned(path: Path, tops: set[str]) -> Iterator[str]:
    """Modules of the same packages that a source file imports, or names in a string."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isascii():
            names = [node.value] if all(part.isidentifier() for part in node.value.split(".")) else []
        yield from (name for name in names if "." in name and name.partition(".")[0] in tops)
