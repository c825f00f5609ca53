"""The probe: canary attacks in real children, and what they say about each layer of this host."""

import os
import platform
import socket
import tempfile
from typing import TYPE_CHECKING, Any, cast

from pydantic import JsonValue

from neural_trader_governance.errors import ConfigurationError, HostError
from neural_trader_sandbox.local import root, zygote
from neural_trader_sandbox.local.profiles import CGROUP, INSTEAD, LAYERS, WARNING
from neural_trader_sandbox.local.remedies import DELEGATE, next_step
from neural_trader_sandbox.port import Fault, Job, Layer, Limits, SandboxReport, SandboxResult

if TYPE_CHECKING:
    from neural_trader_sandbox.local.cgroups import Delegation
    from neural_trader_sandbox.local.profiles import Profile
    from neural_trader_sandbox.local.sandbox import LocalSandbox

_LIMITS = Limits(wall_time_s=20, memory_bytes=2 << 30, file_bytes=4 << 20, cpu_time_s=10)
_SPIN = Limits(wall_time_s=0.3)
_HOARD = Limits(wall_time_s=20, resident_bytes=64 << 20)
_THREADS, _THREADS_MAX = 12, 4
_ENTRY = "neural_trader_sandbox.canaries"
_PTRACE = {"x86_64": 101, "aarch64": 117}
_PATHS = ("/etc/passwd", "/proc", "/sys", "/root", "/home", "/run", "/dev/shm", "/dev/kmsg")  # noqa: S108 - to be refused

_NONE = Fault("", "nothing")
_OF_LAYER: dict[str, tuple[str, ...]] = {
    "namespaces": ("own process id", "host name"),
    "network": ("connect", "unix socket"),
    "processes": ("fork", "signal", "signal everybody"),
    "environment": ("environment",),
    "descriptors": ("descriptors",),
    "limits": ("memory", "files", "raise limits"),
    "privileges": ("set uid",),
    "landlock": ("landlock",),
}
"""Which attacks speak for which layer; the layers not named here have their own."""


def _homes() -> list[str]:
    return [home for home in {os.path.expanduser("~"), os.environ.get("HOME", "")} if os.path.isdir(home)]


async def probe(sandbox: "LocalSandbox") -> SandboxReport:
    """Run every canary and judge every layer; a host that cannot even start a child fails them all."""
    try:
        return await _probe(sandbox)
    except (HostError, ConfigurationError) as error:
        primitive = str(error.facts.get("primitive", ""))
        names = LAYERS[sandbox.profile]
        layers = tuple(Layer(name, False, error.what, error.next_step) for name in names)
        if primitive == "platform":
            layers = (Layer("platform", False, error.what, error.next_step),)
        return SandboxReport("local", False, layers, _notes(sandbox.profile, None))


async def _probe(sandbox: "LocalSandbox") -> SandboxReport:
    uid, groups, profile = await sandbox.host_uid(), await sandbox.groups(), sandbox.profile
    own_root = profile == "full"
    with (
        tempfile.NamedTemporaryFile() as secret,
        tempfile.TemporaryDirectory() as folder,
        socket.socket() as listener,
    ):
        os.chmod(secret.name, 0o644)  # so that only Landlock or the mounts keep it
        os.chmod(folder, 0o777)  # noqa: S103 - as above
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        paths = [secret.name, *_homes(), *_PATHS]
        arguments: dict[str, JsonValue] = {
            "paths": list[JsonValue](sorted(set(paths))),
            "folder": folder,
            "own_tmp": own_root,
            "landlock_path": root.CANARY if own_root else secret.name,
            "host_pid": os.getpid(),
            "port": int(listener.getsockname()[1]),
            "memory_bytes": _LIMITS.memory_bytes,
            "file_bytes": _LIMITS.file_bytes,
            "open_files": _LIMITS.open_files,
            "environment": list[JsonValue](sorted(zygote.environment(profile))),
        }
        attacked = await sandbox.run(Job(f"{_ENTRY}:attack", arguments), _LIMITS)
    if attacked.status == "refused" and attacked.error is not None:
        raise HostError("sandbox_unavailable", attacked.error.message, next_step(""))
    ptrace: dict[str, JsonValue] = {"number": _PTRACE.get(platform.machine(), 0)}
    forbidden = await sandbox.run(Job(f"{_ENTRY}:forbidden_call", ptrace), _LIMITS)
    spun = await sandbox.run(Job(f"{_ENTRY}:spin", {}), _SPIN)
    layers = _judge(attacked, forbidden, spun, uid, profile)
    if not isinstance(groups, str):
        layers = (*layers, await _attack_groups(sandbox, groups.delegation))
    ok = all(layer.holds for layer in layers)
    return SandboxReport("local", ok, layers, _notes(profile, groups if isinstance(groups, str) else None))


def _notes(profile: "Profile", undelegated: str | None) -> tuple[str, ...]:
    notes = [WARNING] if profile == "landlock" else []
    if undelegated is not None:
        notes.append(f"no control group bounds what a run really uses ({undelegated}): {DELEGATE}")
    return tuple(notes)


async def _attack_groups(sandbox: "LocalSandbox", delegation: "Delegation") -> Layer:
    """Use more memory than the group has, and start more tasks than the host then allows it."""
    too_much: dict[str, JsonValue] = {"bytes": 4 * _HOARD.resident_bytes}
    hoarded = await sandbox.run(Job(f"{_ENTRY}:hoard", too_much), _HOARD)
    instance = await sandbox.create(_LIMITS)
    if instance.child.group is not None:
        instance.child.group.bound(_LIMITS.resident_bytes, _THREADS_MAX)
    crowded = await instance.run(Job(f"{_ENTRY}:crowd", {"threads": _THREADS}))
    memory, threads = (hoarded.error or _NONE).message, str(crowded.value)
    holds = hoarded.status == "killed" and "control group" in memory and threads.startswith("blocked")
    what = f"cgroup v{delegation.version} with {', '.join(delegation.controllers)}"
    detail = f"{what}; memory: {memory}; threads: {threads.removeprefix('blocked: ')}"
    return Layer(CGROUP, holds, detail, "" if holds else next_step(CGROUP))


def _judge(
    attacked: SandboxResult, forbidden: SandboxResult, spun: SandboxResult, uid: int, profile: "Profile"
) -> tuple[Layer, ...]:
    outcomes = cast("dict[str, Any]", attacked.value) if attacked.status == "ok" else {}
    files = tuple(name for name in outcomes if name.startswith(("read ", "write ")))
    own_root = profile == "full"
    attacks_of = {name: attacks for name, attacks in _OF_LAYER.items() if name in LAYERS[profile]}
    if own_root:
        attacks_of["filesystem"] = files
        attacks_of["limits"] += ("file size",)
    else:
        attacks_of["landlock"] += files
    layers = [_attacked(name, attacks, outcomes) for name, attacks in attacks_of.items()]
    if not own_root:
        layers.append(Layer(f"profile:{profile}", True, WARNING, INSTEAD))
    layers.append(
        Layer("unprivileged_user", uid != 0, f"runs as host user {uid}", "" if uid else next_step("setuid"))
    )
    layers.append(_ended("seccomp", forbidden, "killed", "a call to ptrace"))
    layers.append(_ended("wall_clock", spun, "timeout", "a spinning child"))
    order = {name: place for place, name in enumerate(LAYERS[profile])}
    return tuple(sorted(layers, key=lambda layer: order[layer.name]))


def _attacked(name: str, attacks: tuple[str, ...], outcomes: dict[str, Any]) -> Layer:
    """A layer holds if each of its attacks was made and was blocked."""
    said = {attack: str(outcomes.get(attack, "not tried")) for attack in attacks}
    holds = bool(said) and all(outcome.startswith("blocked") for outcome in said.values())
    detail = "; ".join(f"{attack}: {outcome.removeprefix('blocked: ')}" for attack, outcome in said.items())
    return Layer(name, holds, detail, "" if holds else next_step(name))


def _ended(name: str, result: SandboxResult, status: str, what: str) -> Layer:
    holds = result.status == status and (name != "seccomp" or "seccomp" in (result.error or _NONE).message)
    detail = f"{what} ended as {result.status}: {(result.error or _NONE).message}"
    return Layer(name, holds, detail, "" if holds else next_step(name))
