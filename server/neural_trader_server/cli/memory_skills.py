"""`neural-trader memory promote|skills|capture`: what was proven, and what is remembered by itself."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from neural_trader_server.cli.terminal import FAILED, Json, emit, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services

Agent = Annotated[str | None, typer.Option(help="Whose memory; default: that of this home's agent.")]


def promote(
    run_id: Annotated[str, typer.Argument(help="A completed sweep that walked forward, such as sw-….")],
    agent: Agent = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show how the evidence stands; exit 1 if it is not enough.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Make a saved strategy a skill, if its sweep passes the gate out of sample. Only a person can.

    The strategy is saved and was checked for look-ahead; the sweep walked forward, purged, and is what the
    log says. The bounds stand in config.toml, section skill_gate. No memory's words have a part in it.

    Example: neural-trader memory promote sw-1f2e3d4c5b --dry-run
    """

    async def run(services: "Services") -> dict[str, Any]:
        from neural_trader_tools.memory.gates import SkillGate
        from neural_trader_tools.memory.skills import promote, weigh

        await services.start()
        gate = SkillGate.model_validate(services.settings.skill_gate)
        found = await weigh(services.backtests, services.store, run_id, gate)
        told: dict[str, Any] = {"ok": found.ok, "evidence": found.model_dump(mode="json")}
        if not dry_run:
            owner = agent or services.caller.agent
            kept = await promote(services.memory, services.store, services.person, found, agent=owner)
            told |= {"memory_id": kept.memory_id, "audit_seq": kept.audit_seq}
        return told

    told = with_desk(run)
    if json_output:
        emit(told)
    else:
        show_table(
            "Evidence",
            ("what", "found", "wanted", ""),
            (
                (each["name"], each["found"], each["wanted"], "" if each["ok"] else "missed")
                for each in told["evidence"]["conditions"]
            ),
        )
        if not dry_run:
            words = f"Promoted as {told['memory_id']}; audit entry {told['audit_seq']}."
            out().print(words, markup=False, soft_wrap=True)
    if not told["ok"]:
        raise typer.Exit(FAILED)


def skills(agent: Agent = None, json_output: Json = False) -> None:
    """Show memories of kind skill: those that were promoted, and those that somebody only says are skills.

    Example: neural-trader memory skills --json
    """

    async def run(services: "Services") -> list[dict[str, Any]]:
        from neural_trader_tools.memory.skills import list_skills

        found = await list_skills(services.memory, services.store, agent=agent or services.caller.agent)
        return [each.model_dump(mode="json") for each in found]

    rows = with_desk(run)
    if json_output:
        emit({"skills": rows})
        return
    show_table(
        "Skills",
        ("id", "promoted", "entry", "trust", "run", "text"),
        (
            (
                row["memory_id"],
                "yes" if row["promoted"] else "no",
                row["promoted_seq"],
                row["trust"],
                row["run_id"],
                row["text"],
            )
            for row in rows
        ),
    )


def capture(json_output: Json = False) -> None:
    """Remember now what happened and is not remembered yet; a server does so by itself.

    Also puts back what the memory lost of late, such as in a power cut.

    Example: neural-trader memory capture
    """

    async def run(services: "Services") -> int:
        await services.start()
        return await services.capture.catch_up(thoroughly=True)

    count = with_desk(run)
    if json_output:
        emit({"captured": count})
    else:
        out().print(f"{count} memories made.")
