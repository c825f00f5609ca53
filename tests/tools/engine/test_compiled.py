"""The machine code on disk is as fresh as every file that it was made from."""

import os
import subprocess
import sys
from pathlib import Path

DOOR = "from neural_trader_tools.engine.compiled import compiled\n"
INNER = DOOR + "@compiled\ndef inner(x):\n    return x + {}\n"
OUTER = DOOR + "from inner import inner\n@compiled\ndef outer(x):\n    return inner(x) * 10\n"


def call(folder: Path) -> tuple[str, str]:
    script = "from outer import outer; print(outer(1), sum(outer.stats.cache_hits.values()))"
    found = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    value, hits = found.stdout.split()
    return value, hits


def test_a_change_to_an_imported_compiled_function_is_seen_and_no_change_is_loaded_from_the_cache(
    tmp_path: Path,
) -> None:
    (tmp_path / "outer.py").write_text(OUTER)
    (tmp_path / "inner.py").write_text(INNER.format(1))
    assert call(tmp_path) == ("20", "0")
    assert call(tmp_path) == ("20", "1")
    (tmp_path / "inner.py").write_text(INNER.format(2))
    assert call(tmp_path) == ("30", "0")


def test_a_kernel_does_not_load_scipy_and_a_matrix_product_still_finds_it() -> None:
    text = (
        "import sys, numpy as np, numba\n"
        "from neural_trader_tools.engine.compiled import compiled\n"
        "import numba.np.arraymath\n"
        "assert not [name for name in sys.modules if name.startswith('scipy.linalg')]\n"
        "numba.njit(lambda a: np.dot(a, a))(np.eye(2))\n"
        "assert 'scipy.linalg.cython_blas' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", text], check=True, timeout=120)
