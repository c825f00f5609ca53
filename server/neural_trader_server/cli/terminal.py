"""What every command shares: where words go, how failures end, which exit code they have.

Exit codes: 0 done, 1 failed or refused, 2 usage, 3 this host lacks what it needs.
With `--json` exactly one JSON document goes to stdout; everything else goes to stderr.
"""

import contextlib
import functools
import json
import sys
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from neural_trader_governance.errors import HostError, NeuralTraderError
from neural_trader_governance.redaction import redact

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
    # A pipe has no width of its own: 80 columns would fold identifiers that scripts look for.
    return _console(highlight=False, width=None if sys.stdout.isatty() else 140)


@functools.cache
def err() -> "Console":
    """Returns the console of notices and failures (stderr)."""
    return _console(stderr=True, highlight=False)


def _console(**options: Any) -> "Console":
    """Returns a console on which words of agents and strangers can be read and do nothing else.

    An escape sequence in an order's reason could repaint the very line by which a person decides.
    """
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    from neural_trader_governance.terms.words import visible

    class PlainConsole(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else visible(text, keep="\n\t"), style, control)

    return PlainConsole(**options)


def emit(document: Any) -> None:
    """Writes the one JSON document of a `--json` answer to stdout."""
    from neural_trader_governance.terms.words import is_unseen

    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    if not text.isascii() or "\x7f" in text:  # JSON escapes only ASCII's other ones by itself
        text = "".join(json.dumps(each)[1:-1] if is_unseen(each) else each for each in text)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints rows for people; None is shown as a dash, and no row at all as the word none."""
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    if not rows:
        out().print(f"{title}: none")
        return
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text("-" if cell is None else str(cell)) for cell in row))
    out().print(table)


@contextlib.contextmanager
def progress_bar(title: str, *, quiet: bool = False) -> Generator[None]:
    """Shows on stderr how far the tools that are called inside say they are; only where a person looks."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.markup import escape
    from rich.progress import Progress

    from neural_trader_tools.telling import telling

    with Progress(console=err(), transient=True) as bar:
        task = bar.add_task(escape(title), total=1.0)

        async def show(fraction: float) -> None:
            bar.update(task, completed=fraction)

        with telling(show):
            yield


def fail(error: NeuralTraderError) -> int:
    """Reports a failure and returns the exit code that it means."""
    from rich.text import Text

    what, next_step = redact(error.what), redact(error.next_step)
    line = Text.assemble((error.code, "bold red"), f": {what}; ", (next_step, "italic"))
    err().print(line, soft_wrap=True)
    if "--json" in sys.argv:
        facts = {"code": error.code, "what": what, "next_step": next_step}
        emit({"ok": False, "error": facts})
    return HOST_LACKS if isinstance(error, HostError) else FAILED


def note_stranger(services: "Services", agent: str | None) -> None:
    """Says on stderr that an agent is not enrolled: a misspelled name would bind, or free, nobody."""
    from neural_trader_governance.principals import list_enrolments

    if agent is None:
        return
    with services.store.read() as connection:
        everybody = list_enrolments(connection, issuer=services.issuer)
    known = [each.name for each in everybody if each.kind == "agent" and each.active]
    if agent not in known:
        note = f"Note: no agent {agent!r} is enrolled here; enrolled: {', '.join(known) or 'none'}."
        err().print(note, markup=False, soft_wrap=True)


def with_desk(work: Callable[["Services"], Awaitable[_Answer]], archive: Path | None = None) -> _Answer:
    """Opens the desk of this home (making it if it is new), does the work, closes the desk.

    Args:
        work: What to do with the services.
        archive: Work over the market archive in this folder instead of the home's.
    """
    from neural_trader_server.app import open_desk
    from neural_trader_server.home import Home
    from neural_trader_server.logs import configure_logs
    from neural_trader_server.settings import load_settings

    home = Home.locate()
    settings = load_settings(home)
    # A command's own words are its answer: the desk's routine notices would only drown them.
    configure_logs("warning" if settings.log_level == "info" else settings.log_level, settings.log_format)

    async def run() -> _Answer:
        async with open_desk(home, settings, archive=archive) as services:
            try:
                return await work(services)
            finally:
                await services.deliver_alerts()

    return run_async(run)


def run_async(work: Callable[[], Awaitable[_Answer]]) -> _Answer:
    """Runs a command's work on an event loop that Ctrl-C always wakes.

    Python notes a signal and calls its handler a moment later. One that comes just before the loop begins to
    wait would be heard at the next event only, which may be a minute away. Once a loop has a handler of its
    own, here for a signal that nobody sends, each signal is also written to a socket on which it waits.
    """
    import asyncio
    import signal
    import threading

    import anyio

    async def run() -> _Answer:
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGURG, lambda: None)
        return await work()

    with unwinding():
        return anyio.run(run)


@contextlib.contextmanager
def unwinding() -> Generator[None]:
    """Has SIGTERM and a closed terminal end a command as Ctrl-C does: what it holds is given back.

    A sandbox at a service would go on, and cost money, where the default action ends us at once.
    """
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    ours = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    for each in ours:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each in ours:
            signal.signal(each, signal.SIG_DFL)


def call_tool(name: str, **arguments: object) -> dict[str, Any]:
    """Runs one tool on this home's desk and returns its result, as an agent would see it."""
    return with_desk(lambda services: services.call(name, **arguments))
