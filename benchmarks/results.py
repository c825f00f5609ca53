"""One home for benchmark results: a table for people, a JSON file for the record.

Every case holds our figure and a peer's, measured in the same run on the same machine; the ratio
`peer / ours` (above 1: ours is faster) is what can be compared between machines.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison; `ours` and `peer` are in `unit`, smaller is better."""

    case: str
    ours: float
    peer: float
    peer_name: str
    unit: str


def time_ms(action: Callable[[], object], *, rounds: int = 5) -> float:
    """Returns the median wall time of `action` in milliseconds, after one warm-up call."""
    action()
    samples: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        samples.append((time.perf_counter() - start) * 1e3)
    return median(samples)


def write_results(name: str, cases: list[Case]) -> Path:
    """Prints the cases and writes `benchmarks/results/NAME.json`."""
    table = Table(title=name)
    for column in ("case", "ours", "peer", "unit", "peer / ours"):
        table.add_column(column, justify="left" if column in {"case", "unit"} else "right")
    rows: list[dict[str, object]] = []
    for case in cases:
        ratio = case.peer / case.ours
        table.add_row(
            case.case, f"{case.ours:.4g}", f"{case.peer:.4g} ({case.peer_name})", case.unit, f"{ratio:.2f}"
        )
        rows.append({**asdict(case), "ratio": round(ratio, 4)})
    Console().print(table)
    machine = {
        "architecture": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine, "cases": rows}, indent=2) + "\n")
    return path
