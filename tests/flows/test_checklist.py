"""The checklist of docs/security.md: every row of it is shown by tests that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RISKS = [f"MCP{number:02}" for number in range(1, 11)]


def test_every_row_of_the_checklist_names_tests_that_exist() -> None:
    checklist = (ROOT / "docs/security.md").read_text().partition("## The OWASP MCP Top 10")[2]
    rows = [line for line in checklist.splitlines() if line.startswith("| MCP")]
    assert [row[2:7] for row in rows] == RISKS
    there = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    for row in rows:
        shown = set(re.findall(r"`(test_\w+)`", row))
        assert shown, f"nothing shows {row[:40]}"
        assert shown <= there, sorted(shown - there)
