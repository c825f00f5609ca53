"""Skills: saved strategies with out-of-sample evidence, promoted by a person through a gate of figures.

The evidence is a sweep that walked forward. Its figures count only if the record is, to the last digit, what
the log says was found; nothing that anybody wrote, in whatever memory, enters the decision. A promotion is an
entry of the log (`skill.promote`) in one transaction with the memory's own.
"""

from collections.abc import Sequence
from typing import Any, Final

import anyio.to_thread
from pydantic import Field, JsonValue

from neural_trader_governance.audit.entries import AuditEntry, EntryType, LoggedEntry
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.term import Term
from neural_trader_memory.memory import Memorized, Memory, Remembered
from neural_trader_tools.backtest.run import Backtests
from neural_trader_tools.backtest.sweeps.record import SweepRecord, result_digest
from neural_trader_tools.engine.orders import ENGINE_VERSION
from neural_trader_tools.memory.events import memory_id_of
from neural_trader_tools.memory.gates import SkillGate
from neural_trader_tools.memory.recording import keep

FIGURES: Final = ("sharpe_ratio", "return_total", "max_drawdown", "trade_count", "exposure_time")


class Condition(Term):
    """One bound and how the evidence stands to it."""

    name: str
    found: str
    wanted: str
    ok: bool


class Evidence(Term):
    """What a sweep shows about a saved strategy.

    Attributes:
        seq: The log's entry that holds the sweep's digest; None where none holds this one.
        conditions: Every bound of the gate.
        figures: Out of sample, as text.
    """

    run_id: str
    strategy_id: str | None
    digest: str
    seq: int | None
    symbols: tuple[str, ...]
    interval: str
    trials: int
    figures: dict[str, str]
    conditions: tuple[Condition, ...]

    @property
    def ok(self) -> bool:
        """Whether every bound is kept."""
        return all(each.ok for each in self.conditions)


class Skill(Term):
    """A memory of kind skill.

    Attributes:
        promoted: The log has its promotion, with this very content.
    """

    memory_id: str
    text: str
    trust: str
    source: str
    promoted: bool
    promoted_seq: int | None = Field(description="The entry of its promotion")
    strategy_id: str | None
    run_id: str | None


async def weigh(backtests: Backtests, store: Store, run_id: str, gate: SkillGate) -> Evidence:
    """Returns the evidence that a sweep is, held against the gate.

    Raises:
        InputError: there is no such sweep, or it is not completed (`sweep_not_completed`).
        IntegrityError: the saved strategy is not what it was.
    """
    sweep = await backtests.sweeps.get(run_id)
    if sweep.state != "completed" or sweep.result is None:
        raise InputError(
            "sweep_not_completed", f"{run_id} is {sweep.state}", "wait for its end, or resume it"
        )
    return await anyio.to_thread.run_sync(_weigh, backtests, store, sweep, gate)


async def promote(
    memory: Memory, store: Store, person: Caller, evidence: Evidence, *, agent: str
) -> Memorized:
    """Makes a skill of evidence that passes the gate, in an agent's memory, on record.

    Raises:
        RiskError: an agent asks (`person_required`), or a bound is not kept (`skill_not_proven`).
        InputError: the sweep was promoted for this agent already.
    """
    if not person.is_person:
        raise RiskError(
            "person_required",
            f"the agent {person.agent} asked to promote a skill, which only a person may do",
            f"let a person run `neural-trader memory promote {evidence.run_id}`",
        )
    missed = [each for each in evidence.conditions if not each.ok]
    if missed or evidence.seq is None:
        told = "; ".join(f"{each.name} is {each.found}, wanted {each.wanted}" for each in missed)
        raise RiskError(
            "skill_not_proven",
            f"{evidence.run_id} does not pass the gate: {told}",
            "sweep with a walk forward over more data and fewer combinations; the bounds are the operator's",
        )
    memory_id = memory_id_of(store.origin, f"skill:{agent}:{evidence.run_id}")
    if await memory.kept_of([memory_id]):
        raise InputError(
            "skill_known",
            f"{evidence.run_id} was promoted as {memory_id}",
            f"see `neural-trader memory show {memory_id}`",
        )
    draft = await memory.draft(
        "skill",
        _words(evidence),
        agent=agent,
        symbols=evidence.symbols[:16],
        data={
            "run_id": evidence.run_id,
            "strategy_id": evidence.strategy_id,
            "trials": evidence.trials,
            "out_of_sample": dict(evidence.figures),
        },
        about_seq=evidence.seq,
        source="desk",
        importance=1.0,
        memory_id=memory_id,
    )
    payload: dict[str, JsonValue] = {
        "memory_id": memory_id,
        "namespace": agent,
        "content_hash": draft.content_hash,
        "evidence": evidence.model_dump(mode="json"),
    }
    entry = AuditEntry.by(person, EntryType.SKILL_PROMOTE, payload=payload)
    (kept,) = await keep(memory, store, person, [draft], before=[entry])
    return kept


async def list_skills(memory: Memory, store: Store, *, agent: str) -> list[Skill]:
    """Returns an agent's memories of kind skill, promoted ones first; most are only what somebody says."""
    found = [each for each in await memory.newest(agent=agent) if each.kind == "skill"]
    promotions = await anyio.to_thread.run_sync(_promotions, store)
    skills = [_skill(each, promotions) for each in found]
    return sorted(skills, key=lambda each: not each.promoted)


def _skill(found: Remembered, promotions: dict[tuple[str, str, str], int]) -> Skill:
    origin = found.provenance
    seq = promotions.get((origin.agent, found.memory_id, origin.content_hash))
    strategy_id, run_id = found.data.get("strategy_id"), found.data.get("run_id")
    return Skill(
        memory_id=found.memory_id,
        text=found.text,
        trust=origin.trust,
        source=origin.source,
        promoted=seq is not None and origin.trust == "verified",
        promoted_seq=seq,
        strategy_id=strategy_id if isinstance(strategy_id, str) else None,
        run_id=run_id if isinstance(run_id, str) else None,
    )


def _promotions(store: Store) -> dict[tuple[str, str, str], int]:
    """Returns the entry of each promotion by (agent, memory, content)."""
    found: dict[tuple[str, str, str], int] = {}
    for entry in _entries(store, EntryType.SKILL_PROMOTE):
        payload = entry.payload
        key = (str(payload["namespace"]), str(payload["memory_id"]), str(payload["content_hash"]))
        found[key] = entry.seq
    return found


def _weigh(backtests: Backtests, store: Store, sweep: SweepRecord, gate: SkillGate) -> Evidence:
    request, result = sweep.request, sweep.result or {}
    base, validation = request.base, request.validation
    outside: dict[str, Any] = result.get("out_of_sample") or {}
    metrics: dict[str, Any] = outside.get("metrics") or {}
    digest = result_digest(sweep)
    seq = _recorded(store, sweep.run_id, digest)
    saved = base.strategy_id is not None and backtests.registry.get(base.strategy_id).source == base.source
    violations = backtests.look_ahead(base.source)
    walks = validation is not None and validation.walks_forward
    folds = len(outside.get("folds") or ()) if walks else 0
    combinations = int(result.get("combinations") or 0)
    trials = int(result.get("trials") or 0)
    conditions = [
        Condition(name="strategy", found=_or(saved, "not saved"), wanted="saved", ok=saved),
        Condition(
            name="record", found=_or(seq is not None, "not what the log says"), wanted="on record",
            ok=seq is not None,
        ),
        Condition(
            name="engine", found=sweep.engine, wanted=ENGINE_VERSION, ok=sweep.engine == ENGINE_VERSION
        ),
        Condition(
            name="look-ahead violations", found="not checked" if violations is None else str(violations),
            wanted="0", ok=violations == 0,
        ),
        Condition(
            name="validation", found="none" if validation is None else validation.scheme,
            wanted="rolling or anchored", ok=walks,
        ),
        _least("test ranges", folds, gate.folds_min),
        _least("purged bars", validation.purge_bars if validation is not None else 0, gate.purge_bars_min),
        _least("trades out of sample", metrics.get("trade_count"), gate.trades_min),
        _least("Sharpe ratio out of sample", metrics.get("sharpe_ratio"), gate.sharpe_min),
        _least("deflated Sharpe ratio", result.get("deflated_sharpe_ratio"), gate.deflated_sharpe_min),
        _least("trials counted", trials, combinations),
        _most("drawdown out of sample", metrics.get("max_drawdown"), gate.drawdown_max),
    ]  # fmt: skip
    if combinations > 1:  # of one alone there is nothing to choose, and so nothing to overfit by choosing
        conditions.append(_most("probability of overfitting", result.get("pbo"), gate.overfitting_max))
    return Evidence(
        run_id=sweep.run_id,
        strategy_id=base.strategy_id,
        digest=digest,
        seq=seq,
        symbols=tuple(base.symbols),
        interval=base.interval,
        trials=trials,
        figures={name: _text(metrics.get(name)) for name in FIGURES},
        conditions=tuple(conditions),
    )


def _words(evidence: Evidence) -> str:
    figures = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in evidence.figures.items())
    others = "; ".join(f"{each.name} {each.found}" for each in evidence.conditions)
    return (
        f"Skill: the strategy {str(evidence.strategy_id)[:12]} on {', '.join(evidence.symbols[:8])}"
        f" ({evidence.interval} bars) held out of sample: {figures}. Evidence {evidence.run_id},"
        f" {evidence.trials} trials counted; {others}."
    )


def _recorded(store: Store, run_id: str, digest: str) -> int | None:
    """Returns the log's entry of a sweep with this digest."""
    for entry in _entries(store, EntryType.BACKTEST_RESULT):
        if entry.payload.get("run_id") == run_id and entry.payload.get("digest") == digest:
            return entry.seq
    return None


def _entries(store: Store, kind: EntryType) -> Sequence[LoggedEntry]:
    with store.read() as connection:
        rows = connection.execute(
            "SELECT seq FROM audit_entries WHERE type = ? ORDER BY seq", (kind,)
        ).fetchall()
        return [read_entry(connection, int(seq)) for (seq,) in rows]


def _least(name: str, found: float | None, bound: float) -> Condition:
    ok = found is not None and found >= bound
    return Condition(name=name, found=_text(found), wanted=f"at least {bound:g}", ok=ok)


def _most(name: str, found: float | None, bound: float) -> Condition:
    ok = found is not None and found <= bound
    return Condition(name=name, found=_text(found), wanted=f"at most {bound:g}", ok=ok)


def _text(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.6g}"


def _or(yes: bool, otherwise: str) -> str:
    return "yes" if yes else otherwise
