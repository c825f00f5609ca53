"""The recipe of our template: E2B's code interpreter with the numpy, polars and numba of this release.

    python -m neural_trader_sandbox.e2b.recipe --print          # the Dockerfile, for a self-hosted service
    python -m neural_trader_sandbox.e2b.recipe [--name NAME]    # has the service build it (needs E2B_API_KEY)

It has never been built by the real service; tests compare it with `constraints.txt` and the SDK's own
serialisation. The engine itself is not in it: the backend uploads that, so that it is never out of date.
"""

import argparse
import sys
from typing import Any, Final

NAME: Final = "neural-trader"
BASE: Final = "e2bdev/code-interpreter:latest"
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


def dockerfile() -> str:
    """The recipe as a Dockerfile."""
    pins = " ".join(f'"{line}"' for line in REQUIREMENTS)
    return f"FROM {BASE}\nUSER root\nRUN pip install --no-cache-dir {pins}\nUSER user\n"


def template() -> Any:
    """The recipe as the SDK's builder (typed Any: the SDK is imported when it is needed)."""
    from e2b import AsyncTemplate

    pins = [f'"{line}"' for line in REQUIREMENTS]
    return AsyncTemplate().from_template("code-interpreter-v1").pip_install(["--no-cache-dir", *pins])


async def build(name: str) -> str:
    """Has the service that the SDK's own variables name build the template; returns its id."""
    from e2b import AsyncTemplate

    info = await AsyncTemplate.build(template(), name, cpu_count=CPU_COUNT, memory_mb=MEMORY_MB)
    return info.template_id


def main() -> None:
    """The command."""
    import anyio

    parser = argparse.ArgumentParser(description="Build the template of the e2b sandbox backend.")
    parser.add_argument("--name", default=NAME, help="the template's name, as in e2b_template")
    parser.add_argument("--print", action="store_true", help="print the Dockerfile and build nothing")
    options = parser.parse_args()
    if options.print:
        sys.stdout.write(dockerfile())
    else:
        sys.stdout.write(f"{anyio.run(build, options.name)}\n")


if __name__ == "__main__":
    main()
