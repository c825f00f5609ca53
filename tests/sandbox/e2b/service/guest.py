"""What runs inside the locked child of a test sandbox: a Python kernel.

The host speaks to it message by message (`port.SandboxStream`). The cell runs in a thread of its own, so
that its output leaves while it runs. The child cannot mount: files of the test sandbox are copied into its
private /tmp before a cell and back while it runs, and Python's own file calls find /home/user there. Standard
library only.
"""

import ast
import base64
import builtins
import contextlib
import functools
import io
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, cast

ROOT, HOME = "/tmp", "/home"  # noqa: S108 - the child's private tmpfs stands for the disk of the test sandbox
WAIT_S = 0.05
BATCH_EVENTS = 256
_PATH_CALLS = (
    "access", "chdir", "listdir", "lstat", "mkdir", "open", "remove", "rename", "replace", "rmdir", "scandir",
    "stat", "unlink",
)  # fmt: skip


def place(path: str) -> str:
    """Where a path lies in the child: /home/user/a is /tmp/home/user/a, /tmp/a is itself."""
    return path if path.startswith(ROOT + "/") or path == ROOT else ROOT + path


def name(there: str) -> str:
    """The opposite of `place`, for what lies below a home."""
    return there.removeprefix(ROOT) if there.startswith(ROOT + HOME + "/") else there


def open_guest(arguments: dict[str, Any], tables: dict[str, Any]) -> Callable[[Any], Any]:
    """The entry: prepare the folders, return the handler of messages."""
    del tables
    os.makedirs(place("/home/user"))
    skew_s, clock = arguments["clock_skew_s"], time.time
    if skew_s:
        time.time = lambda: clock() + skew_s
    _map_paths()
    return Guest(arguments["env"]).answer


class Guest:
    """The kernel's names and the cell in progress."""

    def __init__(self, env: dict[str, str]) -> None:
        self._env = env
        self._names: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
        self._count = 0
        self._seen: dict[str, tuple[int, int]] = {}
        self._events: queue.Queue[list[Any]] = queue.Queue()

    def answer(self, message: dict[str, Any]) -> Any:
        """Do what one message asks for."""
        what = {"files": self._files, "code": self._code, "poll": self._poll}[message["do"]]
        return what(message)

    def _files(self, message: dict[str, Any]) -> None:
        for folder in message["folders"]:
            os.makedirs(place(folder), exist_ok=True)
        for path, data in message["files"].items():
            there = place(path)
            if data is None:
                with contextlib.suppress(OSError):
                    os.unlink(there)
                continue
            os.makedirs(os.path.dirname(there), exist_ok=True)
            with open(there, "wb") as file:
                file.write(base64.b64decode(data))
        self._changes()

    def _code(self, message: dict[str, Any]) -> None:
        os.environ.clear()
        os.environ.update(self._env | message["env"])
        os.chdir(place(message["cwd"]))
        sys.stdin = io.StringIO()
        sys.stdout, sys.stderr = self._stream("stdout"), self._stream("stderr")
        self._count += 1
        self._events.put(["number_of_executions", self._count])
        threading.Thread(target=self._run, args=[message["code"]], daemon=True).start()

    def _poll(self, message: dict[str, Any]) -> dict[str, Any]:
        del message
        events: list[list[Any]] = []
        with contextlib.suppress(queue.Empty):
            events.append(self._events.get(timeout=WAIT_S))
            while len(events) < BATCH_EVENTS:
                events.append(self._events.get_nowait())
        return {"events": events, "files": self._changes()}

    def _stream(self, kind: str) -> io.TextIOWrapper:
        return io.TextIOWrapper(cast(Any, _Output(self._events, kind)), encoding="utf-8", write_through=True)

    def _run(self, source: str) -> None:
        try:
            self._cell(source)
        except BaseException as error:  # strangers raise what they like
            self._events.put(["error", [type(error).__name__, str(error), traceback.format_exc()]])
        self._events.put(["end", True])

    def _cell(self, source: str) -> None:
        tree = ast.parse(source)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "<cell>", "exec"), self._names)  # noqa: S102 - the child is the sandbox
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), self._names)  # noqa: S307
            if value is not None:
                self._events.put(["result", repr(value)])

    def _changes(self) -> dict[str, str | None]:
        """Files that are new, different or gone since the last look."""
        now: dict[str, tuple[int, int]] = {}
        changed: dict[str, str | None] = {}
        for folder, _, files in os.walk(ROOT):
            for file in files:
                path = os.path.join(folder, file)
                with contextlib.suppress(OSError):
                    found = os.stat(path)
                    now[path] = (found.st_mtime_ns, found.st_size)
                    if self._seen.get(path) != now[path]:
                        with open(path, "rb") as data:
                            changed[name(path)] = base64.b64encode(data.read()).decode()
        changed |= {name(path): None for path in self._seen.keys() - now.keys()}
        self._seen = now
        return changed


class _Output(io.RawIOBase):
    def __init__(self, events: "queue.Queue[list[Any]]", kind: str) -> None:
        self._events, self._kind = events, kind

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._events.put([self._kind, base64.b64encode(bytes(data)).decode()])
        return len(data)


def _map_paths() -> None:
    def mapped(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def with_places(*arguments: Any, **options: Any) -> Any:
            return call(*(_placed(argument) for argument in arguments), **options)

        return with_places

    for call in _PATH_CALLS:
        setattr(os, call, mapped(getattr(os, call)))
    io.open = builtins.open = mapped(io.open)
    getcwd = os.getcwd
    os.getcwd = lambda: name(getcwd())


def _placed(argument: Any) -> Any:
    if isinstance(argument, os.PathLike):
        argument = cast("os.PathLike[str]", argument).__fspath__()
    return place(argument) if isinstance(argument, str) and argument.startswith(HOME + "/") else argument
