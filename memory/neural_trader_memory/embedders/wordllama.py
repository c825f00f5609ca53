"""WordLlama: a mean of token vectors (Miller 2024, MIT), a hundred times faster than a network, and weaker.

The package's weights and tokenizer are read, the package itself is never imported: it would set up logging
for the whole process and bring a downloader.
"""

import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from anyio import to_thread
from numpy.typing import NDArray

from neural_trader_governance.errors import ConfigurationError, HostError
from neural_trader_memory.embedders.port import Vectors
from neural_trader_memory.embedders.units import to_units

WEIGHTS = Path("weights", "l2_supercat_256.safetensors")
TOKENIZER = Path("tokenizers", "l2_supercat_tokenizer_config.json")


class WordLlama:
    """256 dimensions, 0.2 ms a sentence, 16 MB of weights; words are not read in their order.

    Args:
        folder: With `WEIGHTS` and `TOKENIZER`; the installed package's by default.
    """

    name = "wordllama-l2-supercat"
    dimension = 256

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._table: NDArray[np.float32] | None = None
        self._tokenizer: Any = None
        self._loading = threading.Lock()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Returns one unit vector a text, in the order given; work happens in a worker thread.

        Raises:
            HostError: the package is not installed (`embedder_missing`).
            ConfigurationError: what is there is not this model (`embedder_invalid`).
            IntegrityError: a text has no token at all (`embedding_invalid`).
        """
        return await to_thread.run_sync(self._embed, list(texts))

    def _embed(self, texts: list[str]) -> Vectors:
        with self._loading:
            if self._table is None:
                self._table = self._load(self._folder or _find_package())
        table = self._table
        made = np.zeros((len(texts), self.dimension), np.float32)
        for row, encoding in enumerate(self._tokenizer.encode_batch(texts, add_special_tokens=False)):
            # A token beyond the table is its last one, as in the package itself.
            made[row] = table[np.minimum(encoding.ids, len(table) - 1)].sum(0) if encoding.ids else 0
        return to_units(made, len(texts), self.name, self.dimension)

    def _load(self, folder: Path) -> NDArray[np.float32]:
        from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType] - bare PathLike
        from tokenizers import Tokenizer

        try:
            table = load_file(folder / WEIGHTS)["embedding.weight"].astype(np.float32)
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            if table.ndim != 2 or table.shape[1] != self.dimension:
                raise ValueError(f"a table of {table.shape}")
        except Exception as error:
            # safetensors and tokenizers raise bare exceptions of their own; all mean the same to the reader.
            raise ConfigurationError(
                "embedder_invalid",
                f"the files in {folder} are not {self.name}: {error}",
                'install it again: pip install --force-reinstall "neural-trader[wordllama]"',
            ) from error
        return table


def _find_package() -> Path:
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise HostError(
            "embedder_missing",
            'embedder = "wordllama" needs the package wordllama, which is not installed',
            'install it: pip install "neural-trader[wordllama]", or set embedder = "minilm"',
        )
    return Path(spec.origin).parent
