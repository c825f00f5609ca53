"""Makes `release`, which no wheel ships, importable; last on the path, where it hides nothing."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
