"""The recipe of our template: E2B's code interpreter with this release's packages, modules and kernels.

`neural-trader sandbox template` has the service build it, or writes it as a Dockerfile for a self-hosted
one. A sandbox made from it neither waits for an upload nor compiles: the bundle (`bundle.py`) lies in the
image under its digest, and the cache of kernels that its `warm_up` filled lies beside it. A template of
another release still works, slower and with a note (`boxes.Box.load`).

It has never been built by the real service; tests compare it with `constraints.txt` and the SDK's own
serialisation, and carry its steps out in the test service (`tests/sandbox/e2b/test_template.py`).
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neural_trader_sandbox.e2b.bundle import Bundle, bundle, python_arguments
from neural_trader_sandbox.e2b.settings import FOLDER

NAME: Final = "neural-trader"
BASE: Final = "e2bdev/code-interpreter:latest"
BASE_TEMPLATE: Final = "code-interpreter-v1"
USER: Final = "user"
"""Who runs our runner at the service; numba must be able to write to the cache that it reads."""

REQUIREMENTS: Final = (
    "numba==0.68.1",
    "numpy==2.4.6 ; python_full_version < '3.12'",
    "numpy==2.5.5 ; python_full_version >= '3.12'",
    "polars==2.1.0",
)
"""As in constraints.txt; a strategy must not compute something else there."""

VERSIONS: Final = {
    name: frozenset(
        line.partition(" ;")[0].partition("==")[2] for line in REQUIREMENTS if line.startswith(f"{name}==")
    )
    for name in ("numba", "numpy", "polars")
}
CPU_COUNT: Final = 2
MEMORY_MB: Final = 4096


@dataclass(frozen=True, slots=True)
class Recipe:
    """What goes into the image, in this order: `REQUIREMENTS`, `bundle` at `path`, then `warming` is run.

    Attributes:
        bundle: Our modules, as a run would upload them.
        preload: The modules whose kernels are compiled; runs of the same `preload` find them.
    """

    bundle: Bundle
    preload: tuple[str, ...]

    @property
    def path(self) -> str:
        """Where the bundle lies in the image."""
        return f"{FOLDER}/{self.bundle.digest}.zip"

    @property
    def warming(self) -> list[str]:
        """The command that fills the cache of kernels, in the image, as `USER`; it ends with 0 or fails."""
        return ["python3", *python_arguments("compile_kernels", FOLDER, self.bundle.digest, self.preload)]

    def dockerfile(self) -> str:
        """The recipe as a Dockerfile; the bundle lies beside it (`write`)."""
        pins = " ".join(f'"{line}"' for line in REQUIREMENTS)
        return (
            f"FROM {BASE}\nUSER root\nRUN pip install --no-cache-dir {pins}\n"
            f"COPY --chown={USER}:{USER} {self.bundle.digest}.zip {self.path}\n"
            f"RUN chown -R {USER}:{USER} {FOLDER}\nUSER {USER}\nRUN {shlex.join(self.warming)}\n"
        )

    def write(self, folder: Path) -> None:
        """Write the Dockerfile and what it copies into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.bundle.digest}.zip").write_bytes(self.bundle.data)
        (folder / "Dockerfile").write_text(self.dockerfile(), encoding="utf-8")

    def template(self, folder: Path) -> Any:
        """The recipe as the SDK's builder (typed Any: the SDK is imported when it is needed).

        Args:
            folder: That `write` wrote to.
        """
        from e2b import AsyncTemplate

        pins = [f'"{line}"' for line in REQUIREMENTS]
        return (
            AsyncTemplate(file_context_path=folder)
            .from_template(BASE_TEMPLATE)
            .pip_install(["--no-cache-dir", *pins])
            .copy(f"{self.bundle.digest}.zip", self.path, user=USER)
            .run_cmd(f"chown -R {USER} {FOLDER}", user="root")
            .run_cmd(shlex.join(self.warming), user=USER)
        )


def recipe(preload: Sequence[str]) -> Recipe:
    """The recipe for runs that preload these modules.

    Raises:
        ConfigurationError: A module is not installed as source (`sandbox_preload_missing`).
    """
    return Recipe(bundle(preload), tuple(preload))


async def build(made: Recipe, name: str, folder: Path, connection: Mapping[str, Any]) -> str:
    """Has the service build the template; returns its id.

    Args:
        made: The recipe.
        name: The template's, as in `E2BSettings.template`.
        folder: For the files on their way there.
        connection: `E2BSettings.connection`.
    """
    from e2b import AsyncTemplate

    made.write(folder)
    told = {key: value for key, value in connection.items() if key in ("api_key", "domain", "api_url")}
    info = await AsyncTemplate.build(
        made.template(folder), name, cpu_count=CPU_COUNT, memory_mb=MEMORY_MB, **told
    )
    return info.template_id
