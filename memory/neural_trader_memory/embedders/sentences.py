"""Any model of the package sentence-transformers, which brings torch: an extra, never the default."""

import importlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from anyio import to_thread

from neural_trader_governance.errors import ConfigurationError, HostError
from neural_trader_memory.embedders.port import Vectors
from neural_trader_memory.embedders.units import to_units


class Model(Protocol):
    """What is used of a `SentenceTransformer`."""

    def encode(self, sentences: list[str], **options: Any) -> Any:
        """Returns an array of a row for each sentence."""
        ...


def load_model(name: str) -> Model:
    """Returns the model of a folder or of the hub's cache on this machine; nothing is downloaded.

    Raises:
        HostError: the package is not installed (`embedder_missing`).
        ConfigurationError: it cannot load that model (`embedder_invalid`).
    """
    try:
        package = importlib.import_module("sentence_transformers")
    except ImportError as error:
        raise HostError(
            "embedder_missing",
            f'embedder = "sentence-transformers" needs a package that does not load: {error}',
            'install it: pip install "neural-trader[sentence-transformers]", or set embedder = "minilm"',
        ) from error
    try:
        return package.SentenceTransformer(name, device="cpu", local_files_only=True)
    except Exception as error:  # torch, safetensors, the hub: each with exceptions of its own
        raise ConfigurationError(
            "embedder_invalid",
            f"sentence-transformers cannot load {name!r:.200} from this machine: {error!s:.200}",
            "set embedder_model to a folder that holds the model; nothing is downloaded",
        ) from error


class SentenceTransformers:
    """A model that the operator chose, on the CPU.

    Args:
        model: A folder, or a name in the hub's cache.
        dimension: Of its vectors; known before torch is loaded, because the store asks first.
        load: Makes the model, on the first `embed`.
    """

    def __init__(self, model: str, dimension: int, load: Callable[[str], Model] = load_model) -> None:
        self._source = model
        self.name = f"sentence-transformers:{model.rstrip('/').rpartition('/')[2]}"
        self.dimension = dimension
        self._load = load
        self._model: Model | None = None
        self._using = threading.Lock()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Returns one unit vector a text, in the order given; work happens in a worker thread.

        Raises:
            HostError: the package is not installed (`embedder_missing`).
            ConfigurationError: it cannot load the model (`embedder_invalid`).
            IntegrityError: the vectors are not what the settings say (`embedding_invalid`).
        """
        return await to_thread.run_sync(self._embed, list(texts))

    def _embed(self, texts: list[str]) -> Vectors:
        with self._using:  # torch modules promise nothing about several threads
            if self._model is None:
                self._model = self._load(self._source)
            made: Any = ()
            if texts:
                made = self._model.encode(texts, convert_to_numpy=True, show_progress_bar=False)
        return to_units(made, len(texts), self.name, self.dimension)
