"""Each primitive is denied in turn: no user code runs, and the refusal says what is missing."""

import os

import pytest

from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Job

AS_ROOT = os.geteuid() == 0
LAUNCHER = [
    "architecture", "unshare", "mount", "mount_setattr", "pivot_root", "umount", "capset", "prctl:1",
    "prctl:38", "prctl:47", "setuid" if AS_ROOT else "uid_map",
]  # fmt: skip
GUEST = [
    "unshare", "uid_map", "mount", "setrlimit", "sethostname", "capset", "prctl:1", "prctl:4", "prctl:38",
    "prctl:47", "close_range", "architecture", "landlock_create_ruleset", "landlock_add_rule",
    "landlock_restrict_self", "seccomp",
]  # fmt: skip
JOB = Job("neural_trader_sandbox.script:run_script", {"source": "print('user code ran'); result = 1"})


@pytest.mark.anyio
@pytest.mark.parametrize("primitive", [*LAUNCHER, *(f"guest:{name}" for name in GUEST)])
async def test_without_a_primitive_nothing_runs(primitive: str, sandbox: LocalSandbox) -> None:
    del sandbox  # only its skip is wanted: the layers must be there, so that the denial is what refuses
    denied = LocalSandbox([], deny=[primitive])
    try:
        result = await denied.run(JOB)
    finally:
        await denied.aclose()
    assert result.status == "refused"
    assert (result.stdout, result.value, result.layers) == ("", None, ())
    assert result.error is not None
    assert result.error.type == "HostError"
    assert result.error.message.startswith("sandbox_unavailable: the sandbox needs ")
    assert "denied on purpose" in result.error.message
    assert "; " in result.error.message


@pytest.mark.anyio
@pytest.mark.parametrize("primitive", ["unshare", "guest:seccomp"])
async def test_a_probe_of_such_a_host_reports_every_layer_and_does_not_raise(
    primitive: str, sandbox: LocalSandbox
) -> None:
    del sandbox
    denied = LocalSandbox([], deny=[primitive])
    try:
        report = await denied.probe()
    finally:
        await denied.aclose()
    assert not report.ok
    assert all(not layer.holds and layer.next_step for layer in report.layers)


@pytest.mark.anyio
async def test_every_layer_of_this_host_holds_under_attack(sandbox: LocalSandbox) -> None:
    report = await sandbox.probe()
    assert report.ok
    result = await sandbox.run(JOB)
    assert result.layers == tuple(layer.name for layer in report.layers)


@pytest.mark.anyio
async def test_elsewhere_than_on_linux_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    elsewhere = LocalSandbox([])
    report = await elsewhere.probe()
    assert [(layer.name, layer.holds) for layer in report.layers] == [("platform", False)]
    assert "Linux" in report.layers[0].next_step
    result = await elsewhere.run(JOB)
    assert (result.status, result.stdout) == ("refused", "")


@pytest.mark.anyio
async def test_a_module_that_cannot_be_imported_is_a_refusal(sandbox: LocalSandbox) -> None:
    del sandbox
    broken = LocalSandbox(["antigravity_that_is_not_there"])
    with pytest.raises(Exception, match=r"sandbox_preload_missing: .*; install it"):
        await broken.run(JOB)
    assert not (await broken.probe()).ok
