"""Defender: the extra `defender`, a small classifier by StackOne that runs here, offline.

Its wheel brings an INT8 ONNX model and patterns (Apache-2.0). Imported only when somebody asks for it:
it loads an inference runtime, which a desk without the setting does not pay for.
"""

import importlib
from typing import Any

from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.untrusted.detectors import Finding
from neural_trader_governance.untrusted.plain import clip

# Its risk levels as scores where only its patterns spoke; `high` and above count as found.
_RISK = {"low": 0.0, "medium": 0.4, "high": 0.75, "critical": 0.95}


class Defender:
    """Scores a text with stackone-defender: its patterns, and its model on every sentence."""

    name = "defender"

    def __init__(self) -> None:
        """Loads the model, about a second.

        Raises:
            ConfigurationError: the extra is not installed, or its model cannot be loaded.
        """
        try:
            # By name: without the extra there is nothing whose types could be checked.
            package: Any = importlib.import_module("stackone_defender")
            defense: Any = package.create_prompt_defense(require_tier2=True, sanitize_content=False)
            defense.warmup_tier2()
        except (ImportError, RuntimeError, OSError) as error:
            raise ConfigurationError(
                "detector_unavailable",
                f"the detector `defender` cannot be loaded ({type(error).__name__})",
                "install the extra: pip install 'neural-trader[defender]', or set detector to rules",
            ) from error
        self._defense = defense

    def score(self, text: str) -> Finding:
        """Returns the finding for a text of any length; long ones are judged by both ends."""
        result = self._defense.defend_tool_result(clip(text), "outside")
        model = float(result.tier2_score or 0.0)
        score = max(model, _RISK.get(str(result.risk_level), 0.0))
        labels = {*map(str, result.detections), *(["model"] if model >= 0.5 else [])}
        return Finding(self.name, round(score, 4), tuple(sorted(labels)))
