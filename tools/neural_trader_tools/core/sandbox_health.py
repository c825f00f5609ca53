"""Sandbox health: the canaries' findings, asked once and kept for a while.

A probe attacks real children and takes half a second; walls do not come down between two questions.
Nothing depends on this being fresh: every run proves its own layers and refuses where one is missing.
"""

import time

import anyio

from neural_trader_sandbox.port import Sandbox, SandboxReport

KEEP_S = 300.0
KEEP_FAILURE_S = 30.0
"""Who did what a finding told them to do must soon see that it helped."""


class SandboxHealth:
    """The newest probe of a sandbox, shared by everybody who asks within `keep_s` seconds."""

    def __init__(self, sandbox: Sandbox, keep_s: float = KEEP_S) -> None:
        self._sandbox = sandbox
        self._keep_s = keep_s
        self._lock = anyio.Lock()
        self._report: SandboxReport | None = None
        self._probed_s = 0.0

    @property
    def newest(self) -> tuple[SandboxReport, float] | None:
        """The newest probe and its age in seconds; None while nobody has asked for one."""
        return None if self._report is None else (self._report, time.monotonic() - self._probed_s)

    async def report(self) -> SandboxReport:
        """Returns which layers hold; probes where nobody has lately."""
        async with self._lock:
            report = self._report
            keep_s = self._keep_s if report is None or report.ok or report.charged_ms else KEEP_FAILURE_S
            if report is None or time.monotonic() - self._probed_s > keep_s:
                self._report = report = await self._sandbox.probe()
                self._probed_s = time.monotonic()
            return report
