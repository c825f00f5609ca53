"""Pages: the console's shell and its modules, served as they lie in the package.

They hold no data and are anybody's: the page that says how to log in is among them. Nothing outside the
folder `static` is served, and nothing of a kind that is not named here.
"""

import functools
import hashlib
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

STATIC = Path(__file__).parent / "static"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


class Asset(NamedTuple):
    """A file with its type and its tag."""

    data: bytes
    kind: str
    tag: str


def routes() -> list[Route]:
    """Returns the routes of everything that is the same for everybody."""
    return [
        Route("/console", _shell, methods=["GET"]),
        Route("/console/", _shell, methods=["GET"]),
        Route("/console/static/{name:path}", _module, methods=["GET"]),
    ]


async def _shell(request: Request) -> Response:
    return _served(request, "index.html")


async def _module(request: Request) -> Response:
    return _served(request, request.path_params["name"])


def _served(request: Request, name: str) -> Response:
    asset = find_asset(name)
    if asset is None:
        error = {"code": "not_found", "what": "there is no such page", "next_step": "open /console"}
        return JSONResponse({"error": error}, 404)
    # A newer version of ours must not run beside modules of an older one: the browser asks each time.
    headers = {"ETag": asset.tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == asset.tag:
        return Response(status_code=304, headers=headers)
    return Response(asset.data, headers=headers, media_type=asset.kind)


@functools.lru_cache(maxsize=128)
def find_asset(name: str) -> Asset | None:
    """Returns a file of the folder; None for what is not in it, or of no kind that is served."""
    parts = name.split("/")
    kind = KINDS.get(Path(name).suffix)
    if kind is None or any(part in {"", ".", ".."} or not part.isascii() or "\0" in part for part in parts):
        return None
    path = STATIC.joinpath(*parts)
    if not path.is_file() or not path.resolve().is_relative_to(STATIC.resolve()):
        return None
    data = path.read_bytes()
    return Asset(data, kind, f'"{hashlib.sha256(data).hexdigest()[:32]}"')
