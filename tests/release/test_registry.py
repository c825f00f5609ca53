"""server.json: the file is what the code says, and says of itself that nothing is published."""

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from pydantic import ValidationError
from release.registry import PLACEHOLDER, Server, document, text

ROOT = Path(__file__).parents[2]


def test_the_file_is_what_the_code_writes_at_the_version_of_the_package() -> None:
    assert (ROOT / "server.json").read_text(encoding="utf-8") == text(), (
        "run: python -m release.registry > server.json"
    )
    assert document().version == document().packages[0].version == version("neural-trader")


def test_while_nothing_is_published_it_says_so_and_a_publisher_names_a_namespace_of_their_own() -> None:
    assert PLACEHOLDER in document().name
    assert "placeholders" in json.dumps(json.loads(text())["_meta"])
    own = json.loads(text("io.github.somebody"))
    assert own["name"] == "io.github.somebody/neural-trader"
    assert "_meta" not in own


def test_the_readme_carries_the_name_by_which_the_registry_knows_who_owns_the_package() -> None:
    marked = re.findall(r"mcp-name: (\S+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert marked == [document().name]


@pytest.mark.parametrize(
    "change",
    [
        {"description": "x" * 101},
        {"name": "neural-trader"},
        {"name": "a/b/c"},
        {"licence": "MIT"},
        {"version": None},
    ],
)
def test_what_the_registrys_schema_refuses_is_refused_here(change: dict[str, object]) -> None:
    plain = json.loads(text())
    Server.model_validate(plain)
    with pytest.raises(ValidationError):
        Server.model_validate(plain | change)
