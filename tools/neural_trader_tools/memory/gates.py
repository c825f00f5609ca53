"""The gate of skills: what a strategy must have shown out of sample before it is called one.

The bounds are the operator's (`[skill_gate]` in `config.toml`); no tool changes them.
"""

from pydantic import BaseModel, ConfigDict, Field


class SkillGate(BaseModel):
    """Bounds; every one must be kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sharpe_min: float = Field(default=0.5, description="Yearly Sharpe ratio of the stitched test ranges")
    deflated_sharpe_min: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="Probability that the Sharpe ratio is above what so many trials find by luck",
    )
    trades_min: int = Field(default=30, ge=1, description="Closed out of sample")
    folds_min: int = Field(default=4, ge=2, description="Test ranges of the walk forward")
    purge_bars_min: int = Field(default=1, ge=0, description="Left out between training and test")
    overfitting_max: float = Field(
        default=0.25, ge=0, le=1, description="Probability of backtest overfitting among the combinations"
    )
    drawdown_max: float = Field(default=0.5, gt=0, le=1, description="Out of sample, a fraction")
