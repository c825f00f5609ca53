"""What runs below a process, and waiting for it to go."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

DEADLINE_S = 15.0


def descendants(root: int) -> set[int]:
    """Process ids of everything below `root`, zombies of this very process aside."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{entry}/stat").read_text()
                state, parent = stat.rpartition(")")[2].split()[:2]
                if state != "Z" or int(parent) != os.getpid():
                    parents[int(entry)] = int(parent)
    found = {root}
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return found - {root}


def leaves(root: int) -> set[int]:
    """Those below `root` that have no children: guests."""
    below = descendants(root)
    return {pid for pid in below if not descendants(pid)}


def until(condition: Callable[[], bool]) -> bool:
    """Waits for a condition, blocking the loop; False after the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)  # the kernel offers nothing to wait on here
    return True
