"""`neural-trader policy`: what the rules are, and whether a new set of rules is usable."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neural_trader_server.cli.terminal import Json, emit, group, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services

app = group("policy", "The rules that every order is judged by.")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A Cedar file.", exists=True, dir_okay=False)],
    schema: Annotated[
        Path | None, typer.Option(help="Its Cedar schema; default: the home's.", exists=True, dir_okay=False)
    ] = None,
    json_output: Json = False,
) -> None:
    """Check that a policy parses, fits its schema and can judge this version's orders."""
    from neural_trader_governance.policy.engine import SCHEMA_FILE, SHIPPED_POLICY, PolicyEngine
    from neural_trader_server.home import Home

    own = Home.locate().policy_schema
    path = schema or (own if own.exists() else SHIPPED_POLICY / SCHEMA_FILE)
    engine = PolicyEngine(file.read_text(encoding="utf-8"), path.read_text(encoding="utf-8"))
    rules = [
        {"rule": rule.id, "effect": rule.effect, "class": rule.rule_class, "source": rule.source}
        for rule in engine.rules.values()
    ]
    if json_output:
        emit({"ok": True, "policy_digest": engine.digest, "rules": rules})
        return
    show_table(
        f"{file.name}: usable", ("rule", "effect", "class", "source"), (tuple(row.values()) for row in rules)
    )
    out().print(f"digest {engine.digest}")


@app.command()
def explain(
    preview_id: Annotated[str, typer.Argument(help="As orders_preview or `orders list` shows it.")],
    json_output: Json = False,
) -> None:
    """Show what policy said of a preview: the decision, and every rule that decided."""
    from neural_trader_tools.orders.previews import find_preview

    async def run(services: "Services") -> dict[str, Any]:
        with services.store.read() as connection:
            preview = find_preview(connection, preview_id)
        return {"preview_id": preview_id, "state": preview.state.value} | preview.verdict.model_dump(
            mode="json"
        )

    result = with_desk(run)
    if json_output:
        emit(result)
        return
    out().print(f"{preview_id} is {result['state']}; policy said: {result['decision']}")
    show_table(
        "Deciding rules",
        ("rule", "message", "next step"),
        ((reason["rule"], reason["message"], reason["next_step"]) for reason in result["reasons"]),
    )
