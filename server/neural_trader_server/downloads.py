"""Downloads: the whole file behind a handle, over HTTP, for programs that want all rows and not a page.

    GET /artifacts/bars-3f2a9c1b5d7e8f60      Arrow IPC file, uncompressed

A million rows of bars are 46 MB and are read without being copied; as pages of JSON they are a hundred
thousand answers. It is `artifact_read` by another way: the same door, rates, roles, scopes, charge and log
(gate.py, `passing`), the same refusals. What a handle names never changes, so its digest is its ETag.
"""

from typing import TYPE_CHECKING, Final

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from neural_trader_governance.errors import InputError, NeuralTraderError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.redaction import redact
from neural_trader_server.calling import EVERYTHING, REACH_KEY, SCOPE_KEY, Reach, calling

if TYPE_CHECKING:
    from neural_trader_server.endpoint import Endpoint
    from neural_trader_tools.artifacts import Artifacts

PATH: Final = "/artifacts/{handle}"
TOOL: Final = "artifact_read"
ARROW: Final = "application/vnd.apache.arrow.file"


def offer_downloads(endpoint: "Endpoint", artifacts: "Artifacts") -> None:
    """Adds the route of the files to a server.

    Args:
        endpoint: The server, whose gate decides who gets what.
        artifacts: The files.
    """

    async def download(request: Request) -> Response:
        caller, reach = request.scope.get(SCOPE_KEY), request.scope.get(REACH_KEY)
        whose = caller if isinstance(caller, Caller) else None
        handle = str(request.path_params["handle"])
        tag = f'"{handle}"'
        with calling(whose, reach if isinstance(reach, Reach) else EVERYTHING):
            try:
                async with endpoint.gate.passing(TOOL) as call:
                    content = await anyio.to_thread.run_sync(artifacts.content, handle)
                    held = request.headers.get("if-none-match", "").split(",")
                    known = tag in {one.strip() for one in held}
                    call.result_bytes = 0 if known else len(content)
            except NeuralTraderError as error:
                return _refusal(error)
        headers = {"ETag": tag, "Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
        if known:
            return Response(status_code=304, headers=headers)
        headers["Content-Disposition"] = f'attachment; filename="{handle}.arrow"'
        return Response(content, media_type=ARROW, headers=headers)

    endpoint.custom_route(PATH, methods=["GET"])(download)


def _refusal(error: NeuralTraderError) -> JSONResponse:
    if error.code == "unknown_handle":
        status = 404
    elif isinstance(error, RiskError):
        status = 403
    else:
        status = 400 if isinstance(error, InputError) else 503
    told = {"code": error.code, "what": redact(error.what), "next_step": redact(error.next_step)}
    return JSONResponse({"error": told}, status, {"Cache-Control": "no-store"})
