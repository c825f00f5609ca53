"""The base of every term: an immutable, validated value that has a JSON schema."""

from pydantic import BaseModel, ConfigDict


class Term(BaseModel):
    """A frozen value object: unknown fields are refused, NaN and infinities never pass."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)
