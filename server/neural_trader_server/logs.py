"""Logs: structured, on stderr, always. stdout belongs to the protocol or to a command's answer.

A secret is hidden twice: fields by their names before a line is written, and whatever looks like a
secret in the finished line, tracebacks and the words of other libraries included.
"""

import contextlib
import json
import logging
import os
import sys
import threading
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, cast

import structlog
from pydantic import SecretBytes, SecretStr
from structlog.typing import EventDict, Processor, WrappedLogger

from neural_trader_governance.redaction import HIDDEN, names_secret, redact_line, remember
from neural_trader_governance.terms.words import visible

_ENCODER = json.JSONEncoder(default=repr)


def configure_logs(
    level: Literal["debug", "info", "warning", "error"] = "info",
    style: Literal["auto", "json", "console"] = "auto",
) -> None:
    """Sends our logs and the libraries' to stderr in one form; called once per process.

    Args:
        level: The least severe level that is shown.
        style: `console` for people, `json` for machines, `auto`: console on a terminal.
    """
    guard_process()
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers: list[Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, _as_json]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                hide_fields,
                *renderers,
                hide_in_line,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # libraries speak up only when something is wrong
    # Our own lines go past the standard library's logging, which takes ten times as long; they look the same.
    structlog.configure(
        processors=[*shared, hide_fields, *renderers, hide_in_line],
        wrapper_class=_wrapper(level, plain=console),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )


def _as_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    """Renders as structlog's JSONRenderer does, which makes an encoder anew for every line."""
    return _ENCODER.encode(event)


def _wrapper(
    level: Literal["debug", "info", "warning", "error"], *, plain: bool
) -> type[structlog.typing.FilteringBoundLogger]:
    """Returns the class of our loggers; a line of JSON without a traceback takes its shortest way."""
    chosen = structlog.make_filtering_bound_logger(level)
    if plain or level in ("warning", "error"):
        return chosen

    class Quick(chosen):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass]  # made by structlog
        def info(self, event: str, *args: Any, **fields: Any) -> Any:
            if args or "exc_info" in fields or "stack_info" in fields or self._context:
                return super().info(event, *args, **fields)
            # What the processors do one after the other, and every tool call waits for.
            lines = cast("_Lines", self._logger)  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]  # structlog's
            fields["event"], fields["logger"], fields["level"] = event, lines.name, "info"
            fields["timestamp"] = f"{datetime.now(UTC).replace(tzinfo=None).isoformat('T', 'microseconds')}Z"
            lines.msg(redact_line(_ENCODER.encode(_hidden(fields))))
            return None

    return Quick


class _Lines:
    """Writes finished lines to stderr, each with one write; a stderr that is gone stops nobody."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    debug = info = warning = warn = error = exception = critical = fatal = log = msg


def hide_fields(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Hides the values of fields whose names say that they are secret, at any depth."""
    return cast("EventDict", _hidden(event))


def hide_in_line(_: WrappedLogger, __: str, line: Any) -> Any:
    """Hides what looks like a secret, or is known to be one, in the finished line."""
    return redact_line(line) if isinstance(line, str) else line


def guard_process() -> None:
    """Learns the secrets of the environment, and lets no crash print one."""
    for name, value in os.environ.items():
        if names_secret(name):
            remember(value)
    sys.excepthook = _report_crash
    threading.excepthook = lambda crash: _report_crash(crash.exc_type, crash.exc_value, crash.exc_traceback)


def _report_crash(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    sys.stderr.write(redact_line("".join(traceback.format_exception(kind, error, trace))))


def _hidden(value: Any, name: str = "") -> Any:
    if name and names_secret(name):
        return HIDDEN
    if isinstance(value, SecretStr | SecretBytes):
        return HIDDEN
    if isinstance(value, dict):
        return {key: _hidden(inner, str(key)) for key, inner in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_hidden(inner) for inner in cast("list[Any]", value)]
    return visible(value) if isinstance(value, str) else value  # on a terminal, others' words act
