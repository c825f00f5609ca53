"""`neural-trader memory`: look at what agents have learned."""

from typing import Annotated, Any

import typer

from neural_trader_server.cli.terminal import Json, call_tool, emit, group, show_table

app = group("memory", "What agents have learned.")


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What you are looking for, in your own words.")],
    k: Annotated[int, typer.Option(help="How many.", min=1, max=50)] = 5,
    kind: Annotated[str | None, typer.Option(help="Only this kind, such as lesson.")] = None,
    as_of: Annotated[str | None, typer.Option(help="Only what was known at this time.")] = None,
    json_output: Json = False,
) -> None:
    """Find memories by meaning.

    Example: neural-trader memory search "what failed in falling markets".
    """
    result = call_tool("memory_search", query=query, k=k, kind=kind, as_of=as_of)
    _show(result, json_output)


def _show(result: dict[str, Any], json_output: bool) -> None:
    if json_output:
        emit(result)
        return
    show_table(
        "Memories",
        ("id", "kind", "score", "known", "text"),
        (
            (hit["memory_id"], hit["kind"], hit.get("score"), hit["known_time"], hit["text"])
            for hit in result["hits"]
        ),
    )
