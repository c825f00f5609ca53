"""The code interpreter of a sandbox (port 49999): contexts, and code in them."""

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from tests.sandbox.e2b.service.disk import HOME
from tests.sandbox.e2b.service.machine import Context, Machine

if TYPE_CHECKING:
    from tests.sandbox.e2b.service.server import Service

PORT = "49999"


class Interpreter:
    """Routes of the code interpreter.

    A kernel is a locked child that keeps its names between calls. As with the real one, a client that goes
    away does not stop what runs: the next code of that context waits for it. The access token is required
    where the SDK sends it (`/execute`). Not imitated: languages other than Python, charts, rich results
    (text only), magics.
    """

    def __init__(self, service: "Service") -> None:
        self._service = service

    async def __call__(self, request: Request, machine: Machine) -> Response:
        """Answer one request."""
        path = request.url.path
        if (
            machine.traffic_token is not None
            and request.headers.get("e2b-traffic-access-token") != machine.traffic_token
        ):
            return PlainTextResponse("traffic access token is missing or invalid", 403)
        if path == "/health":
            return PlainTextResponse("OK")
        if path == "/execute":
            return await self._execute(request, machine)
        parts = path.strip("/").split("/")
        if parts[0] != "contexts":
            return PlainTextResponse("Not Found", 404)
        if len(parts) == 1:
            return await self._contexts(request, machine)
        context = machine.contexts.get(parts[1])
        if context is None:
            return PlainTextResponse(f"Context {parts[1]} not found", 404)
        if request.method == "DELETE":
            del machine.contexts[context.context_id]
            await context.kernel.kill()
        else:
            await machine.restart(context)
        return JSONResponse(None)

    async def _contexts(self, request: Request, machine: Machine) -> Response:
        if request.method == "GET":
            return JSONResponse([context.as_json() for context in machine.contexts.values()])
        order = await request.json()
        language = order.get("language") or "python"
        if language != "python":
            return PlainTextResponse(f"Language {language} is not available here", 400)
        machine.disk.host_path(order.get("cwd") or HOME).mkdir(parents=True, exist_ok=True)
        return JSONResponse(machine.add_context(language, order.get("cwd") or HOME).as_json())

    async def _execute(self, request: Request, machine: Machine) -> Response:
        if request.headers.get("x-access-token") != machine.access_token:
            return PlainTextResponse("Invalid access token", 401)
        order = await request.json()
        if order.get("context_id") and order.get("language"):
            return PlainTextResponse("Only one of context_id or language can be provided", 400)
        if (order.get("language") or "python") != "python":
            return PlainTextResponse(f"Language {order['language']} is not available here", 400)
        context = machine.context(order.get("context_id"))
        if context is None:
            return PlainTextResponse(f"Context {order.get('context_id')} not found", 404)
        return StreamingResponse(self._lines(machine, context, order), media_type="application/x-ndjson")

    async def _lines(
        self, machine: Machine, context: Context, order: dict[str, Any]
    ) -> AsyncGenerator[str, None]:
        if machine.sandbox_id in self._service.wedged:
            while machine.is_running:
                yield _line({"type": "keepalive"})
                await asyncio.sleep(self._service.keepalive_s)
            return
        if context.kernel.is_over:
            await machine.restart(context)
        events = context.kernel.run(order["code"], order.get("env_vars") or {})
        pending = asyncio.ensure_future(anext(events))
        try:
            while True:
                done, _ = await asyncio.wait([pending], timeout=self._service.keepalive_s)
                if not done:
                    yield _line({"type": "keepalive"})
                    continue
                kind, value = pending.result()
                if kind == "end":
                    break
                yield _line(self._event(machine, kind, value))
                pending = asyncio.ensure_future(anext(events))
        finally:
            pending.cancel()
        # False where the kernel died: out of memory, killed
        yield _line({"type": "end_of_execution" if value else "unexpected_end_of_execution"})

    def _event(self, machine: Machine, kind: str, value: Any) -> dict[str, Any]:
        now = datetime.now(UTC) + timedelta(seconds=machine.clock_skew_s)
        if kind in ("stdout", "stderr"):
            return {"type": kind, "text": value.decode(errors="replace"), "timestamp": now.isoformat()}
        if kind == "result":
            return {"type": "result", "text": value, "is_main_result": True}
        if kind == "error":
            name, text, traceback = value
            return {"type": "error", "name": name, "value": text, "traceback": traceback}
        return {"type": kind, "execution_count": value}


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value) + "\n"
