"""Choosing a backend by its name in the settings."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neural_trader_governance.errors import ConfigurationError
from neural_trader_sandbox.local.profiles import Profile
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Sandbox

if TYPE_CHECKING:
    from neural_trader_sandbox.e2b.settings import E2BSettings


def open_sandbox(
    backend: str,
    preload: Sequence[str],
    *,
    cache_dir: Path | None = None,
    profile: Profile = "full",
    e2b: "E2BSettings | None" = None,
    consent: Callable[[str], None] | None = None,
) -> Sandbox:
    """The backend called `backend`; nothing is started yet.

    Args:
        backend: `local` or `e2b`.
        preload: Modules that entries may lie in.
        cache_dir: Where compiled kernels are kept between starts (local).
        profile: `landlock` is weaker, for hosts without user namespaces (local); see `profiles.py`.
        e2b: Where that service is (e2b).
        consent: Called with the service's address before anything is sent there; raises where no person
            agreed to it (e2b).

    Raises:
        ConfigurationError: The backend is not available (`sandbox_backend_unavailable`) or does not
            exist (`sandbox_backend_unknown`).
    """
    if backend == "local":
        return LocalSandbox(preload, cache_dir=cache_dir, profile=profile)
    if backend == "e2b":
        if e2b is None or consent is None:
            raise ConfigurationError(
                "sandbox_backend_unavailable",
                "the e2b backend was given no settings, or nobody to ask for consent",
                "pass `e2b` and `consent`",
            )
        from neural_trader_sandbox.e2b.sandbox import E2BSandbox

        return E2BSandbox(e2b, preload, consent)
    raise ConfigurationError(
        "sandbox_backend_unknown", f"there is no sandbox backend {backend!r}", "use `local` or `e2b`"
    )
