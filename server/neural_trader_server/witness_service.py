"""The witness's process: its own folder, its own key, and an address on which desks ask it.

`POST /add-checkpoint` and `GET /<SHA-256 of the origin>/checkpoint`, as in https://c2sp.org/tlog-witness.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from neural_trader_governance.audit.submissions import BODY_BYTES_MAX
from neural_trader_governance.audit.witness import Witness
from neural_trader_governance.errors import ConfigurationError, IntegrityError, StorageError
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey
from neural_trader_governance.terms.clocks import Clock, WallClock
from neural_trader_server.founding import exclusively, write_text
from neural_trader_server.home import Home
from neural_trader_server.keyholder import KeyRole, load_key

log = structlog.get_logger(__name__)


def locate_witness(folder: Path | None = None) -> Path:
    """Returns the witness's folder: the given one, `NEURAL_TRADER_WITNESS_HOME`, or the platform's.

    Raises:
        ConfigurationError: it lies in the desk's home, which it must be able to testify about.
    """
    named = folder or os.environ.get("NEURAL_TRADER_WITNESS_HOME")
    if named:
        place = Path(named).expanduser().absolute()
    else:
        import platformdirs

        place = Path(platformdirs.user_data_path("neural-trader-witness", appauthor=False))
    if place.resolve().is_relative_to(Home.locate().path.resolve()) or (place / "desk.db").exists():
        raise ConfigurationError(
            "witness_in_home",
            f"the witness's folder {place} lies in the desk's home, and would be rolled back with it",
            "give --folder outside of it, best on another machine or account",
        )
    return place


def open_witness(folder: Path, clock: Clock | None = None, *, make: bool = True) -> Witness:
    """Opens the witness of a folder, making its key and memory where both are new and `make` is set.

    Raises:
        IntegrityError: it has its key and lost its memory: it could be made to vouch for a second history.
        ConfigurationError: the folder cannot be used, or the key is locked and no passphrase opens it.
    """
    key, memory = folder / "witness.key", folder / "witness.db"
    pending = folder / "witness.key.new"
    if not make and not key.exists():
        raise ConfigurationError(
            "no_witness_here",
            f"{folder} holds no witness",
            "give the --folder of `neural-trader witness serve`",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigurationError(
            "witness_folder_unusable", f"{folder} cannot be used ({error.strerror})", "give another --folder"
        ) from error
    with exclusively(folder / ".founding.lock"):
        if key.exists() and not memory.exists():
            raise IntegrityError(
                "witness_memory_missing",
                f"{memory} is gone, and the key that spoke for it is still here",
                "begin a new witness in an empty folder, and pin its new key on the desk",
            )
        if not key.exists() and not pending.exists():
            SigningKey.generate(f"neural-trader.local/witness/{secrets.token_hex(4)}").save(pending)
        signer = load_key(key if key.exists() else pending, KeyRole.WITNESS)
        witness = Witness.open(folder, signer, clock or WallClock())
        if not key.exists():
            os.replace(pending, key)
        if not (folder / "witness.vkey").exists():
            write_text(folder / "witness.vkey", f"{witness.key.vkey}\n")
    return witness


def read_vkey(path: Path) -> VerifyingKey:
    """Reads a log's verifier key from a file.

    Raises:
        ConfigurationError: missing or malformed.
    """
    try:
        return VerifyingKey.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(
            "vkey_unreadable", f"{path} cannot be read", "give the desk's keys/log.vkey"
        ) from None


def build_service(witness: Witness) -> Starlette:
    """Returns the witness as a web application."""

    async def add_checkpoint(request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                return PlainTextResponse("the request is too long\n", 413)
        try:
            answer = await anyio.to_thread.run_sync(witness.add_checkpoint, body)
        except StorageError as error:
            log.error("witness_failed", code=error.code, what=error.what)
            return PlainTextResponse(f"{error.what}\n", 500)
        if answer.status != 200:
            log.warning("witness_refused", status=answer.status, answer=answer.body.strip()[:200])
        # As a header: given as media type, a charset would be added to what the protocol prescribes.
        return Response(answer.body, answer.status, headers={"content-type": answer.content_type})

    async def checkpoint(request: Request) -> Response:
        wanted = request.path_params["origin_hash"]
        logs = await anyio.to_thread.run_sync(witness.logs)
        for known in logs:
            if hashlib.sha256(known.origin.encode()).hexdigest() == wanted:
                return PlainTextResponse(known.note)
        return PlainTextResponse("no checkpoint of this log was cosigned here\n", 404)

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/{origin_hash:str}/checkpoint", checkpoint, methods=["GET"]),
        ]
    )


async def serve_witness(folder: Path, log_vkeys: Sequence[Path], host: str, port: int) -> None:
    """Serves a witness on a loopback address until a signal ends it.

    Raises:
        ConfigurationError: the address is public or taken, or a key file is not usable.
    """
    import uvicorn

    from neural_trader_server.listening import bind, end_http_on_signal, require_loopback

    require_loopback(host)
    witness = open_witness(folder)
    try:
        for path in log_vkeys:
            witness.trust(read_vkey(path))
        listener = bind(host, port)
        bound = int(listener.getsockname()[1])
        config = uvicorn.Config(
            build_service(witness), log_config=None, access_log=False, timeout_graceful_shutdown=5, ws="none"
        )
        http = uvicorn.Server(config)
        http.capture_signals = contextlib.nullcontext  # pyright: ignore[reportAttributeAccessIssue]  # see listening
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end_http_on_signal, http)
            log.info("witnessing", url=f"http://{host}:{bound}", folder=str(folder), vkey=witness.key.vkey)
            await http.serve(sockets=[listener])
            tasks.cancel_scope.cancel()
    finally:
        witness.close()
