"""Vectors that came from somebody else's code or machine, checked before anything is measured with them."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neural_trader_governance.errors import IntegrityError
from neural_trader_memory.embedders.port import Vectors


def to_units(made: ArrayLike, count: int, name: str, dimension: int) -> Vectors:
    """Returns the vectors at unit length.

    Args:
        made: What an embedder gave, a row for each text.
        count: How many texts there were.
        name: The embedder's, for messages.
        dimension: How many numbers each vector has to have.

    Raises:
        IntegrityError: another number of vectors or of dimensions, or one that has no direction: NaN,
            infinite, or all zero (`embedding_invalid`).
    """
    try:
        vectors: NDArray[np.float64] = np.asarray(made, np.float64)
    except (TypeError, ValueError):
        raise _invalid(name, "rows of unlike length, or something that is no number") from None
    if count == 0 and not vectors.size:
        return np.zeros((0, dimension), np.float32)
    if vectors.shape != (count, dimension):
        raise _invalid(name, f"an array of {vectors.shape} for {count} texts of {dimension} dimensions")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(vectors).all() or not (lengths > 0).all():
        at = int(np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)).ravel())[0])
        raise _invalid(name, f"a vector without a direction for text {at + 1} of {count} (NaN or zero)")
    return (vectors / lengths).astype(np.float32)


def _invalid(name: str, what: str) -> IntegrityError:
    return IntegrityError(
        "embedding_invalid",
        f"the embedder {name} returned {what}; nothing was kept",
        "check `embedder_model` and `embedder_dimension` in config.toml against the model's own description",
    )
