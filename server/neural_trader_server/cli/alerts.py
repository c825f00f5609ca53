"""`neural-trader alerts`: what people were told, and whether it reached them."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import typer

from neural_trader_server.cli.terminal import FAILED, Json, emit, group, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services

app = group("alerts", "Alerts: what a person must hear of within five seconds.")


@app.command("list")
def list_alerts(
    limit: Annotated[int, typer.Option(help="At most this many.", min=1, max=500)] = 20,
    json_output: Json = False,
) -> None:
    """Show the newest alerts and how their deliveries stand."""
    from neural_trader_governance.alerts import read_alerts

    async def run(services: "Services") -> list[dict[str, Any]]:
        def look() -> list[dict[str, Any]]:
            with services.store.read() as connection:
                return [
                    asdict(alert)
                    | {
                        "raised_time": _time(alert.raised_us),
                        "deliveries": [
                            {
                                "target": delivery.target,
                                "attempts": delivery.attempts,
                                "delivered_time": _time(delivery.delivered_us),
                                "error": delivery.error,
                            }
                            for delivery in deliveries
                        ],
                    }
                    for alert, deliveries in read_alerts(connection, limit=limit)
                ]

        return await anyio.to_thread.run_sync(look)

    rows = with_desk(run)
    if json_output:
        emit({"alerts": rows})
        return
    show_table(
        "Alerts",
        ("raised", "kind", "what", "entry", "deliveries"),
        ((row["raised_time"], row["kind"], row["message"], row["seq"], _words(row)) for row in rows),
    )


@app.command("test")
def send_test(json_output: Json = False) -> None:
    """Raise a test alert and deliver it now to every webhook and desktop that is set."""
    from neural_trader_governance.alerts import AlertKind, raise_alert

    async def run(services: "Services") -> tuple[str, list[str], int]:
        def raise_one() -> str:
            with services.store.unit() as unit:
                return raise_alert(
                    unit, caller=services.person, kind=AlertKind.TEST, message="a test of the alerts"
                )

        alert_id = await anyio.to_thread.run_sync(raise_one)
        targets = services.alerting.target_names
        return alert_id, targets, await services.alerting.deliver(only=alert_id)

    alert_id, targets, delivered = with_desk(run)
    if json_output:
        emit({"id": alert_id, "targets": targets, "delivered": delivered})
    elif not targets:
        out().print("No webhook and no desktop is set: alerts go to the servers' logs only (docs/alerts.md).")
    else:
        out().print(f"{alert_id}: {delivered} of {len(targets)} targets have it: {', '.join(targets)}")
    if delivered < len(targets):
        raise typer.Exit(FAILED)


def _time(microseconds: int | None) -> str | None:
    if microseconds is None:
        return None
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="milliseconds")


def _words(row: dict[str, Any]) -> str:
    said = (
        f"{delivery['target']} {delivery['delivered_time'] or 'waits: ' + delivery['error']}"
        for delivery in row["deliveries"]
    )
    return ", ".join(said) or "none yet"
