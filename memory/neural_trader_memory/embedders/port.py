"""The port that every embedder stands behind: texts in, unit vectors out, named."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""Shape (texts, dimension), rows of unit length, so that a dot product is the cosine."""


class Embedder(Protocol):
    """Turns texts into unit vectors of one fixed length.

    `name` and `dimension` are known before any weights are read, because a store compares them with what
    it holds before it lets the first vector in. Two embedders with one name must give the same vectors.
    """

    @property
    def name(self) -> str:
        """Returns the model's published name; it is in every result."""
        ...

    @property
    def dimension(self) -> int:
        """Returns the length of each vector."""
        ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Returns one unit vector a text, in the order given.

        Raises:
            HostError: the weights are not on this machine (`embedder_missing`).
        """
        ...
