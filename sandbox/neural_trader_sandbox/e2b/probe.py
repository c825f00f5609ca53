"""The probe: canaries in a real sandbox of the service, and what they say about each layer."""

import tempfile
import uuid
from typing import TYPE_CHECKING, Any, cast

from pydantic import JsonValue

from neural_trader_governance.errors import NeuralTraderError
from neural_trader_sandbox.e2b.boxes import MICROVM, Box
from neural_trader_sandbox.e2b.runner import ENVIRONMENT
from neural_trader_sandbox.port import Fault, Job, Layer, Limits, SandboxReport, SandboxResult

if TYPE_CHECKING:
    from neural_trader_sandbox.e2b.sandbox import E2BSandbox

_ENTRY = "neural_trader_sandbox.e2b.canaries"
_LIMITS = Limits(wall_time_s=30)
_SPIN = Limits(wall_time_s=1)
_SKEW_S = 5.0
_OF_LAYER = {
    "internet_off": (("internet", "names"), "the service ignores allow_internet_access=False: do not use it"),
    "metadata": (("metadata",), "the sandbox reaches 169.254.169.254: ask the service what it tells"),
    "separate_files": (("desk's file",), "the service runs sandboxes on this very machine: use another"),
    "environment": (("environment",), "rebuild the template: it sets variables of its own"),
    "privileges": (("privileges",), "the service's kernel lacks no_new_privs"),
}


async def probe(sandbox: "E2BSandbox") -> SandboxReport:
    """Run every canary and judge every layer; what keeps us from it is a layer that does not hold."""
    charges_ms: list[float] = []
    try:
        layers, notes = await _probe(sandbox, charges_ms)
    except NeuralTraderError as error:
        notes = ()
        layers = (Layer("service", False, f"{error.code}: {error.what}", error.next_step),)
    return SandboxReport("e2b", all(layer.holds for layer in layers), layers, notes, sum(charges_ms))


async def _probe(sandbox: "E2BSandbox", charges_ms: list[float]) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
    with tempfile.NamedTemporaryFile("w", suffix="-canary", encoding="utf-8") as file:
        content = uuid.uuid4().hex
        file.write(content)
        file.flush()
        arguments: dict[str, JsonValue] = {
            "addresses": [["1.1.1.1", 443], ["8.8.8.8", 53]],
            "name": "example.com",
            "path": file.name,
            "content": content,
            "environment": list[JsonValue](sorted([*ENVIRONMENT, "NUMBA_CACHE_DIR", "LC_CTYPE"])),
            "timeout_s": 2,
        }
        attacked, box = await sandbox.run_in_box(Job(f"{_ENTRY}:attack", arguments), _LIMITS)
    charges_ms.append(attacked.charged_ms)
    spun, _ = await sandbox.run_in_box(Job(f"{_ENTRY}:spin", {}), _SPIN)
    charges_ms.append(spun.charged_ms)
    outcomes = cast("dict[str, Any]", attacked.value) if attacked.status == "ok" else {}
    unsaid = (attacked.error or Fault("", attacked.status)).message
    judged = [
        _judged(name, attacks, outcomes, unsaid, remedy) for name, (attacks, remedy) in _OF_LAYER.items()
    ]
    return (*_greeted(box), *judged, _ended(spun)), box.notes


def _greeted(box: Box) -> tuple[Layer, ...]:
    greeting = box.greeting
    versions = (
        ", ".join(f"{name} {version}" for name, version in greeting.versions.items()) if greeting else ""
    )
    apart = MICROVM in box.layers
    kernel = "another kernel than this machine's" if apart else "this machine's own kernel, or none told"
    in_step = box.clock_skew_s <= _SKEW_S
    return (
        Layer("service", True, f"made, checked and loaded a sandbox at {box.destination}"),
        Layer("packages", True, versions),
        Layer(
            "microvm", apart, kernel, "" if apart else "a test server isolates nothing: use a real service"
        ),
        Layer(
            "clock",
            in_step,
            f"{box.clock_skew_s:.1f} s from ours",
            "" if in_step else "set this machine's clock, or tell the service",
        ),
    )


def _judged(name: str, attacks: tuple[str, ...], outcomes: dict[str, Any], unsaid: str, remedy: str) -> Layer:
    """A layer holds if each of its attacks was made and was blocked."""
    said = {attack: str(outcomes.get(attack, f"not tried: {unsaid}"))[:200] for attack in attacks}
    holds = all(outcome.startswith("blocked") for outcome in said.values())
    detail = "; ".join(f"{attack}: {outcome.removeprefix('blocked: ')}" for attack, outcome in said.items())
    return Layer(name, holds, detail, "" if holds else remedy)


def _ended(result: SandboxResult) -> Layer:
    holds = result.status == "timeout"
    detail = f"a spinning guest ended as {result.status}: {(result.error or Fault('', '')).message}"
    return Layer("wall_clock", holds, detail, "" if holds else "report this: our own deadline did not hold")
