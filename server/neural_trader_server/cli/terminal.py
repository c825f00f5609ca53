"""What every command shares: where words go, how failures end, which exit code they have.

Exit codes: 0 done, 1 failed or refused, 2 usage, 3 this host lacks what it needs.
With `--json` exactly one JSON document goes to stdout; everything else goes to stderr.
"""

import functools
import json
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from neural_trader_governance.errors import HostError, NeuralTraderError

if TYPE_CHECKING:  # the command line must answer --help before it has imported a library
    from rich.console import Console

    from neural_trader_server.app import Services

FAILED = 1
HOST_LACKS = 3

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

_Answer = TypeVar("_Answer")


def group(name: str, help_text: str) -> typer.Typer:
    """Returns a group of commands that shows its help when called bare."""
    return typer.Typer(name=name, help=help_text, no_args_is_help=True, pretty_exceptions_enable=False)


@functools.cache
def out() -> "Console":
    """Returns the console of answers for people (stdout)."""
    from rich.console import Console

    return Console(highlight=False)


@functools.cache
def err() -> "Console":
    """Returns the console of notices and failures (stderr)."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def emit(document: Any) -> None:
    """Writes the one JSON document of a `--json` answer to stdout."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def wants_json() -> bool:
    """Tells whether this invocation promised a JSON document."""
    return "--json" in sys.argv


def fail(error: NeuralTraderError) -> int:
    """Reports a failure and returns the exit code that it means."""
    from rich.text import Text

    line = Text.assemble((error.code, "bold red"), f": {error.what}; ", (error.next_step, "italic"))
    err().print(line, soft_wrap=True)
    if wants_json():
        facts = {"code": error.code, "what": error.what, "next_step": error.next_step}
        emit({"ok": False, "error": facts | error.facts})
    return HOST_LACKS if isinstance(error, HostError) else FAILED


def with_desk(work: Callable[["Services"], Awaitable[_Answer]]) -> _Answer:
    """Opens the desk of this home (making it if it is new), does the work, closes the desk."""
    import anyio

    from neural_trader_server.app import open_desk
    from neural_trader_server.home import Home
    from neural_trader_server.logs import configure_logs
    from neural_trader_server.settings import load_settings

    home = Home.locate()
    settings = load_settings(home)
    # A command's own words are its answer: the desk's routine notices would only drown them.
    configure_logs("warning" if settings.log_level == "info" else settings.log_level, settings.log_format)

    async def run() -> _Answer:
        async with open_desk(home, settings) as services:
            return await work(services)

    return anyio.run(run)
