"""The control plane: who may create sandboxes, which exist, when they end."""

import urllib.parse
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from tests.sandbox.e2b.service.disk import Disk
from tests.sandbox.e2b.service.machine import Machine

if TYPE_CHECKING:
    from tests.sandbox.e2b.service.server import Service

ACCOUNT_TIMEOUT_S_MAX = 3600
PAGE = 100


def problem(status: int, message: str) -> JSONResponse:
    """An error as the API writes it."""
    return JSONResponse({"code": status, "message": message}, status)


class Control:
    """Routes of the API host.

    Not imitated: teams, template builds, snapshots, volumes, secrets, metrics (empty), logs.
    """

    def __init__(self, service: "Service") -> None:
        self._service = service

    async def __call__(self, request: Request, body: dict[str, Any]) -> Response:
        """Answer one request."""
        if request.headers.get("x-api-key") != self._service.api_key:
            return problem(401, "Invalid API key")
        parts = request.url.path.strip("/").split("/")
        parts = parts[1:] if parts[0] == "v2" else parts
        if parts[0] == "sandboxes" and len(parts) == 1:
            return self._create(body) if request.method == "POST" else self._list(request)
        machine = self._service.machines.get(parts[1]) if parts[0] == "sandboxes" else None
        if machine is None or machine.ended_by is not None:
            return problem(
                404, f"sandbox {'/'.join(parts[1:2])!r} doesn't exist or you don't have access to it"
            )
        return await self._one(machine, request.method, parts[2] if len(parts) > 2 else "", body)

    def _create(self, body: dict[str, Any]) -> Response:
        service = self._service
        if body.get("templateID") not in service.templates:
            return problem(404, f"template {body.get('templateID')!r} not found")
        if not 0 < body.get("timeout", 15) <= ACCOUNT_TIMEOUT_S_MAX:
            return problem(400, f"Timeout cannot be greater than {ACCOUNT_TIMEOUT_S_MAX // 3600} hours")
        if len(service.running()) >= service.sandboxes_max:
            return problem(
                429, f"you have reached the maximum number of concurrent sandboxes ({service.sandboxes_max})"
            )
        machine = Machine(
            body,
            service.sandbox,
            service.envd_version,
            Disk(service.disk_bytes, service.templates[body["templateID"]]),
            service.clock_skew_s,
        )
        service.machines[machine.sandbox_id] = machine
        return JSONResponse(_created(machine), 201)

    def _list(self, request: Request) -> Response:
        query = request.query_params
        wanted = dict(urllib.parse.parse_qsl(urllib.parse.unquote(query.get("metadata", ""))))
        states = query.get("state", "running,paused").split(",")
        found = [
            self._detail(machine)
            for machine in self._service.machines.values()
            if machine.ended_by is None
            and wanted.items() <= machine.metadata.items()
            and _state(machine) in states
            and query.get("template", machine.template) == machine.template
        ]
        if query.get("order") == "desc":
            found.reverse()
        start, size = int(query.get("nextToken", 0)), int(query.get("limit", PAGE))
        more = {"x-next-token": str(start + size)} if len(found) > start + size else {}
        return JSONResponse(found[start : start + size], headers=more)

    async def _one(self, machine: Machine, method: str, verb: str, body: dict[str, Any]) -> Response:
        if method == "DELETE":
            await machine.kill("deleted")
            return Response(status_code=204)
        if verb == "timeout":
            machine.live_for(cast("float", body["timeout"]))
            return Response(status_code=204)
        if verb == "connect":
            resumed, machine.is_paused = machine.is_paused, False
            left = machine.end - datetime.now(machine.end.tzinfo)
            machine.live_for(max(left.total_seconds(), body.get("timeout", 15)))
            return JSONResponse(_created(machine), 201 if resumed else 200)
        if verb == "pause":
            if machine.is_paused:
                return problem(409, f"sandbox {machine.sandbox_id} is already paused")
            machine.pause()
            return Response(status_code=204)
        if verb == "metrics":
            return JSONResponse([])
        return JSONResponse(self._detail(machine)) if verb == "" else problem(404, f"no such path: {verb}")

    def _detail(self, machine: Machine) -> dict[str, Any]:
        skew = timedelta(seconds=machine.clock_skew_s)
        return {
            "templateID": machine.template,
            "sandboxID": machine.sandbox_id,
            "clientID": "local",
            "startedAt": (machine.started + skew).isoformat(),
            "endAt": (machine.end + skew).isoformat(),
            "cpuCount": 2,
            "memoryMB": 4096,
            "diskSizeMB": machine.disk.size_bytes >> 20,
            "state": _state(machine),
            "envdVersion": machine.envd_version,
            "metadata": machine.metadata,
            "allowInternetAccess": machine.order.get("allow_internet_access", True),
        }


def _state(machine: Machine) -> str:
    return "paused" if machine.is_paused else "running"


def _created(machine: Machine) -> dict[str, Any]:
    return {
        "templateID": machine.template,
        "sandboxID": machine.sandbox_id,
        "clientID": "local",
        "envdVersion": machine.envd_version,
        "envdAccessToken": machine.access_token,
        "trafficAccessToken": machine.traffic_token,
        "domain": None,
    }
