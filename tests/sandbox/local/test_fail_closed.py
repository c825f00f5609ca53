"""Each primitive is denied in turn: no user code runs, and the refusal names it and says what to do."""

import ast
import errno
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tests.sandbox.local import hosts
from tests.sandbox.local.denials import Case

from neural_trader_sandbox import local
from neural_trader_sandbox.local import cgroups, kernel, remedies
from neural_trader_sandbox.local.profiles import PROFILES, Profile
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Job

AS_ROOT = os.geteuid() == 0
PACKAGE = Path(local.__file__ or "").parent
JOB = Job("neural_trader_sandbox.script:run_script", {"source": "print('user code ran'); result = 1"})
# Where each primitive is used: by the launcher and the zygote, or first (`guest:`) by a nanny or its guest.
BOTH = [
    "architecture", "capset", "prctl:1", "prctl:4", "prctl:38", "prctl:47", "pidfd_open", "fork",
    "guest:architecture", "guest:capset", "guest:close_range", "guest:fork", "guest:landlock_add_rule",
    "guest:landlock_create_ruleset", "guest:landlock_restrict_self", "guest:pidfd_open", "guest:prctl:1",
    "guest:prctl:38", "guest:prctl:4", "guest:prctl:47", "guest:seccomp", "guest:setrlimit", "guest:setsid",
]  # fmt: skip
ONLY: dict[Profile, list[str]] = {
    "full": [
        "mount", "mount_setattr", "pivot_root", "umount", "unshare", "guest:mount", "guest:move_mount",
        "guest:open_tree", "guest:sethostname", "guest:uid_map", "guest:unshare",
    ],
    "landlock": ["landlock_create_ruleset", "landlock_alone", "readable"],
}  # fmt: skip
AS_USER: dict[Profile, dict[bool, list[str]]] = {
    "full": {True: ["setuid"], False: ["uid_map"]},
    "landlock": {True: ["setuid"], False: []},
}
GROUPS = "guest:cgroup"
# System calls that a container's filter, a security module or an older kernel answers with an error:
# number on x86-64 and on AArch64, first argument (-1: whichever), error, and the profiles that use it.
_X86 = platform.machine() == "x86_64"
REAL: dict[str, tuple[int, int, int, int, tuple[str, ...]]] = {
    "capset": (126, 91, -1, errno.EPERM, PROFILES),
    "close_range": (436, 436, -1, errno.ENOSYS, PROFILES),
    "landlock_add_rule": (445, 445, -1, errno.EPERM, PROFILES),
    "landlock_create_ruleset": (444, 444, -1, errno.ENOSYS, PROFILES),
    "landlock_create_ruleset disabled": (444, 444, -1, errno.EOPNOTSUPP, PROFILES),
    "landlock_restrict_self": (446, 446, -1, errno.EPERM, PROFILES),
    "mount": (165, 40, -1, errno.EPERM, ("full",)),
    "mount_setattr": (442, 442, -1, errno.ENOSYS, ("full",)),
    "move_mount": (429, 429, -1, errno.EPERM, ("full",)),
    "open_tree": (428, 428, -1, errno.ENOSYS, ("full",)),
    "pidfd_open": (434, 434, -1, errno.ENOSYS, PROFILES),
    "pivot_root": (155, 41, -1, errno.EPERM, ("full",)),
    "prctl:1": (157, 167, 1, errno.EPERM, PROFILES),
    "prctl:38": (157, 167, 38, errno.EINVAL, PROFILES),
    "prctl:4": (157, 167, 4, errno.EPERM, PROFILES),
    "prctl:47": (157, 167, 47, errno.EINVAL, PROFILES),
    "seccomp EINVAL": (317, 277, -1, errno.EINVAL, PROFILES),
    "seccomp ENOSYS": (317, 277, -1, errno.ENOSYS, PROFILES),
    "sethostname": (170, 161, -1, errno.EPERM, ("full",)),
    "umount": (166, 39, -1, errno.EPERM, ("full",)),
    "unshare ENOSYS": (272, 97, -1, errno.ENOSYS, ("full",)),
    "unshare EPERM": (272, 97, -1, errno.EPERM, ("full",)),
    **({"setuid": (117, 147, -1, errno.EPERM, PROFILES)} if AS_ROOT else {}),
}
ON_PURPOSE: dict[str, Case] = {
    f"{profile}: {primitive}": {"profile": profile, "deny": [primitive], "answers": []}
    for profile in PROFILES
    for primitive in [*BOTH, *ONLY[profile], *AS_USER[profile][AS_ROOT], GROUPS]
}
BY_THE_KERNEL: dict[str, Case] = {
    f"{profile}: {name}{'' if ' ' in name else ' denied'}": {
        "profile": profile, "deny": [], "answers": [(x86 if _X86 else arm, argument, error)],
    }
    for name, (x86, arm, argument, error, profiles) in REAL.items()
    for profile in profiles
}  # fmt: skip
NAMESPACES = (272 if _X86 else 97, -1, errno.EPERM)
CASES: dict[str, Case] = {
    **ON_PURPOSE,
    **BY_THE_KERNEL,
    **{f"{profile}: nothing": {"profile": profile, "deny": [], "answers": []} for profile in PROFILES},
    "landlock: no namespaces": {"profile": "landlock", "deny": [], "answers": [NAMESPACES]},
}


def called(name: str) -> Iterator[tuple[ast.Call, list[object]]]:
    """Each call of a function of this name in the package, with the constants it is passed."""
    for file in sorted(PACKAGE.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                function = node.func
                own = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                if own == name:
                    yield node, [a.value if isinstance(a, ast.Constant) else None for a in node.args]


def primitives() -> set[str]:
    """Every name that the code requires, whichever way."""
    found = {str(args[0]) for name in ("require", "call") for _, args in called(name) if args and args[0]}
    for node, _ in called("prctl"):
        option = node.args[0]
        name = option.attr if isinstance(option, ast.Attribute) else getattr(option, "id", "")
        if name.startswith("PR_"):
            found.add(f"prctl:{getattr(kernel, name)}")
    return found


def test_every_primitive_of_the_code_is_denied_below() -> None:
    tested = {*BOTH, GROUPS}.union(
        *ONLY.values(), *(names for by in AS_USER.values() for names in by.values())
    )
    assert {name.removeprefix("guest:") for name in tested} == primitives()
    assert len(primitives()) >= 28


def test_every_refusal_of_the_code_has_a_next_step_of_its_own() -> None:
    raised = [(name, at) for name, at in (("DeniedError", 0), ("unavailable", 0), ("refuse", 1))]
    named = {str(args[at]) for name, at in raised for _, args in called(name) if len(args) > at and args[at]}
    for primitive in primitives() | named - {"launcher", "nanny", "lock"}:  # those three: anything else
        assert remedies.next_step(primitive) != remedies.next_step("nothing like it"), primitive


@pytest.fixture(scope="module")
def module_below_tmp() -> Iterator[str]:
    """A module that lies below /tmp, which the guest's own /tmp would hide: its folder is carried over."""
    folder = tempfile.mkdtemp(dir="/tmp")
    os.chmod(folder, 0o755)  # noqa: S103 - the zygote's user reads it
    Path(folder, "lies_below_tmp.py").write_text("")
    sys.path.append(folder)
    yield "lies_below_tmp"
    sys.path.remove(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def answers(
    module_below_tmp: str, tmp_path_factory: pytest.TempPathFactory, lacking: Callable[[str], NoReturn]
) -> dict[str, dict[str, Any]]:
    """What became of each case; one program runs them all, because each needs a process of its own."""
    folder = tmp_path_factory.mktemp("denials")
    plan = {
        "cases": list(CASES.values()),
        "preload": [module_below_tmp],
        "cache": str(folder / "kernels"),
    }
    done = subprocess.run(
        [*hosts.readable(folder, lacking), sys.executable, "-B", "-m", "tests.sandbox.local.denials"],
        env=hosts.environment(folder), cwd="/", input=json.dumps(plan),
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES, json.loads(done.stdout.splitlines()[-1]), strict=True))


def refused(answer: dict[str, Any], primitive: str) -> str:
    """Asserts a refusal for want of `primitive`, before any job was handed over; returns what it said."""
    assert (answer["status"], answer.get("said")) == ("refused", ["", None, [], 0]), answer
    message = str(answer["message"])
    assert message.startswith(f"sandbox_unavailable: the sandbox needs {primitive} and this host answers: ")
    assert message.endswith(remedies.next_step(primitive))
    return message


@pytest.mark.parametrize("profile", PROFILES)
def test_where_nothing_is_denied_the_job_runs(
    profile: str, sandbox: LocalSandbox, answers: dict[str, dict[str, Any]]
) -> None:
    """Without this, a host that refuses everything would pass every test below."""
    del sandbox
    answer = answers[f"{profile}: nothing"]
    assert (answer["status"], answer["said"][:2]) == ("ok", ["user code ran\n", 1]), answer


@pytest.mark.parametrize("name", ON_PURPOSE)
def test_without_a_primitive_nothing_runs(
    name: str,
    sandbox: LocalSandbox,
    answers: dict[str, dict[str, Any]],
    lacking: Callable[[str], NoReturn],
) -> None:
    del sandbox  # only its skip is wanted: the layers must be there, so that the denial is what refuses
    [denied] = CASES[name]["deny"]
    if denied == GROUPS:
        try:
            cgroups.find()
        except (cgroups.UndelegatedError, OSError) as reason:
            lacking(f"no control groups are delegated here: {reason}")
    assert "denied on purpose" in refused(answers[name], denied.removeprefix("guest:"))


@pytest.mark.parametrize("name", BY_THE_KERNEL)
def test_what_the_kernel_itself_denies_is_a_refusal(
    name: str, sandbox: LocalSandbox, answers: dict[str, dict[str, Any]]
) -> None:
    del sandbox
    primitive = name.partition(": ")[2].split()[0]
    [(_, _, code)] = CASES[name]["answers"]
    assert os.strerror(code) in refused(answers[name], primitive)


def test_the_weaker_profile_runs_where_namespaces_are_forbidden_and_is_not_chosen_by_itself(
    sandbox: LocalSandbox, answers: dict[str, dict[str, Any]]
) -> None:
    del sandbox
    refused(answers["full: unshare EPERM"], "unshare")
    answer = answers["landlock: no namespaces"]
    assert (answer["status"], answer["said"][:2]) == ("ok", ["user code ran\n", 1]), answer
    assert answer["said"][2][0] == "profile:landlock"


@pytest.mark.parametrize(("profile", "primitive"), [("full", "unshare"), ("landlock", "setuid")])
def test_a_container_without_more_namespaces_is_a_refusal(
    profile: str, primitive: str, sandbox: LocalSandbox, tmp_path: Path, lacking: Callable[[str], NoReturn]
) -> None:
    del sandbox
    if shutil.which("unshare") is None:
        lacking("util-linux (unshare) is not installed")
    case: Case = {"profile": profile, "deny": [], "answers": []}
    contained = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    python = [sys.executable, "-B", "-m", "tests.sandbox.local.denials"]
    done = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", contained, "sh", *python], cwd="/", env=hosts.environment(tmp_path),
        input=json.dumps({"cases": [case], "preload": [], "cache": str(tmp_path / "kernels")}),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [answer] = json.loads(done.stdout.splitlines()[-1])
    refused(answer, primitive)


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


@pytest.mark.anyio
async def test_starting_ahead_leaves_it_to_the_run_to_say_what_is_missing() -> None:
    denied = LocalSandbox([], deny=["seccomp"])
    try:
        await denied.warm()
        result = await denied.run(Job("neural_trader_sandbox.script:run_script", {"source": "result = 1"}))
        assert result.status == "refused"
    finally:
        await denied.aclose()
