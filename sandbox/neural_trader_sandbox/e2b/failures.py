"""What goes wrong at a service, in our words: a code, what happened, what to do."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from neural_trader_governance.errors import ConfigurationError, NetworkError, NeuralTraderError
from neural_trader_sandbox.answers import plain_text
from neural_trader_sandbox.e2b.settings import E2BSettings

BUILD = "build it: neural-trader sandbox template (docs/sandbox.md, E2B)"


@asynccontextmanager
async def asking(settings: E2BSettings, doing: str, deadline_s: float) -> AsyncGenerator[None]:
    """Asks the service for something, within our own deadline.

    The SDK's time-outs are no bound: `timeout=1` was seen to fire after 2 s, and several do not exist.

    Args:
        settings: Whom we ask, for the message.
        doing: Such as ``making a sandbox``.
        deadline_s: Ours.

    Raises:
        NeuralTraderError: As `translated`.
    """
    try:
        with anyio.fail_after(deadline_s):
            yield
    except NeuralTraderError:
        raise
    except TimeoutError:
        raise NetworkError(
            "e2b_timeout",
            f"{doing} at {settings.destination} took longer than {deadline_s:g} s",
            "try again; if it stays so, look at the service's status page or raise e2b_request_timeout_s",
        ) from None
    except Exception as error:
        raise translated(error, settings, doing) from None


def translated(error: Exception, settings: E2BSettings, doing: str) -> NeuralTraderError:
    """The SDK's exception as one of ours; the key does not occur in it."""
    import httpx
    from e2b import exceptions as sdk

    where = settings.destination
    status = getattr(error, "status_code", None)
    said = _said(error, settings)
    if isinstance(error, sdk.AuthenticationException) or status in (401, 403):
        return ConfigurationError(
            "e2b_key_refused",
            f"{where} refused the API key ({said})",
            "put a valid key into E2B_API_KEY or run: keyring set neural-trader e2b",
        )
    if isinstance(error, sdk.RateLimitException) or status == 429:
        return NetworkError(
            "e2b_rate_limited",
            f"{where} answers that we ask too often ({said})",
            "wait a minute, run fewer sandboxes at once, or ask the service for a higher limit",
        )
    if isinstance(error, sdk.ServiceBusyException) or status == 503:
        return NetworkError(
            "e2b_busy", f"{where} has no room for a sandbox now ({said})", "try again in a minute"
        )
    gone = (sdk.SandboxNotRunningException, sdk.SandboxUnreachableException, sdk.SandboxNotFoundException)
    if isinstance(error, gone):
        return NetworkError(
            "e2b_sandbox_gone", f"the sandbox at {where} ended while {doing} ({said})", "run it again"
        )
    if isinstance(error, sdk.TemplateException):
        return ConfigurationError(
            "e2b_template_outdated", f"the template {settings.template} is too old ({said})", BUILD
        )
    if status in (400, 404) and "template" in said.lower():
        return ConfigurationError(
            "e2b_template_missing", f"{where} has no template {settings.template} ({said})", BUILD
        )
    if status == 402:
        return ConfigurationError(
            "e2b_payment_required",
            f"{where} wants to be paid first ({said})",
            "look at the account's billing page",
        )
    if isinstance(error, sdk.NotEnoughSpaceException):
        return NetworkError(
            "e2b_disk_full",
            f"the sandbox's disk is full while {doing} ({said})",
            "hand over less data, or build the template with a larger disk",
        )
    if isinstance(error, sdk.TimeoutException) and "sandbox timeout" in said.lower():
        # how `run_code` tells of a 502, which is a sandbox that is gone; its advice would not help
        return NetworkError("e2b_sandbox_gone", f"the sandbox at {where} ended while {doing}", "run it again")
    if isinstance(error, (sdk.TimeoutException, httpx.TimeoutException)):
        return NetworkError("e2b_timeout", f"{doing} at {where} timed out ({said})", "try again")
    if isinstance(error, (httpx.ConnectError, ConnectionRefusedError)):
        return NetworkError(
            "e2b_unreachable",
            f"{where} cannot be reached ({said})",
            "look at this machine's network and name resolution, and at e2b_domain or e2b_api_url",
        )
    if isinstance(error, (httpx.HTTPError, OSError)):
        return NetworkError(
            "e2b_connection_lost", f"the connection to {where} broke while {doing} ({said})", "run it again"
        )
    return NetworkError(
        "e2b_failed", f"{doing} at {where} failed ({said})", "try again, then look at the service's status"
    )


def _said(error: Exception, settings: E2BSettings) -> str:
    """What a stranger's server says: cut, plain, and without our key."""
    text = plain_text(str(error)).replace("\n", " ").strip()
    key = settings.api_key.get_secret_value() if settings.api_key is not None else ""
    if key:
        text = text.replace(key, "[redacted]")
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
