"""Choosing a backend by its name in the settings."""

from collections.abc import Sequence
from pathlib import Path

from neural_trader_governance.errors import ConfigurationError
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Sandbox


def open_sandbox(backend: str, preload: Sequence[str], *, cache_dir: Path | None = None) -> Sandbox:
    """The backend called `backend`; nothing is started yet.

    Args:
        backend: `local`.
        preload: Modules that entries may lie in.
        cache_dir: Where compiled kernels are kept between starts.

    Raises:
        ConfigurationError: The backend is not available (`sandbox_backend_unavailable`) or does not
            exist (`sandbox_backend_unknown`).
    """
    if backend == "local":
        return LocalSandbox(preload, cache_dir=cache_dir)
    if backend == "e2b":
        raise ConfigurationError(
            "sandbox_backend_unavailable",
            "the e2b backend is not available yet",
            "use the local backend, on a Linux host",
        )
    raise ConfigurationError(
        "sandbox_backend_unknown", f"there is no sandbox backend {backend!r}", "use `local`"
    )
