import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from neural_trader_governance.errors import ConfigurationError, HostError, IntegrityError
from neural_trader_memory.embedders.sentences import SentenceTransformers

pytestmark = pytest.mark.anyio

Numbers = NDArray[np.float64]

with_torch = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None,
    reason="the extra sentence-transformers (torch) is not installed",
)


class Letters:
    """Counts letters: a model that is one, without torch."""

    def __init__(self, spoil: Callable[[Numbers], Numbers] | None = None) -> None:
        self.spoil = spoil
        self.calls = 0

    def encode(self, sentences: list[str], **options: Any) -> Numbers:
        self.calls += 1
        assert options["convert_to_numpy"]
        made: Numbers = np.array([[each.count(letter) for letter in "abc"] for each in sentences], np.float64)
        return made if self.spoil is None else self.spoil(made)


async def test_vectors_have_unit_length_and_the_model_is_loaded_once() -> None:
    loaded: list[str] = []
    model = Letters()

    def load(name: str) -> Letters:
        loaded.append(name)
        return model

    embedder = SentenceTransformers("/models/letters/", 3, load)
    assert embedder.name == "sentence-transformers:letters"
    assert loaded == []
    assert (await embedder.embed(["aab", "c"])).tolist() == pytest.approx(
        np.array([[2, 1, 0], [0, 0, 1]]) / np.array([[5**0.5], [1]])
    )
    assert (await embedder.embed([])).shape == (0, 3)
    await embedder.embed(["b"])
    assert loaded == ["/models/letters/"]


SPOILS: dict[str, Callable[[Numbers], Numbers]] = {
    "dimension": lambda made: made[:, :2],
    "count": lambda made: made[:-1],
    "nan": lambda made: made * np.nan,
    "zero": lambda made: made * 0,
    "infinite": lambda made: np.where(made > 0, np.inf, made),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS.keys())
async def test_what_is_no_vector_is_refused(spoil: Callable[[Numbers], Numbers]) -> None:
    embedder = SentenceTransformers("letters", 3, lambda _: Letters(spoil))
    with pytest.raises(IntegrityError, match="embedding_invalid"):
        await embedder.embed(["a", "b"])


async def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(HostError, match="embedder_missing") as caught:
        await SentenceTransformers("letters", 3).embed(["a"])
    assert "neural-trader[sentence-transformers]" in caught.value.next_step


@with_torch
async def test_a_tiny_model_of_the_real_package_is_loaded_from_its_folder(tmp_path: Path) -> None:
    models = importlib.import_module("sentence_transformers.sentence_transformer.modules")
    package = importlib.import_module("sentence_transformers")
    words = models.BoW(vocab=["stop", "gap"])
    package.SentenceTransformer(modules=[words, models.Dense(2, 4)]).save(str(tmp_path / "tiny"))
    vectors = await SentenceTransformers(str(tmp_path / "tiny"), 4).embed(["stop", "gap stop"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], abs=1e-6)
    with pytest.raises(ConfigurationError, match="embedder_invalid"):
        await SentenceTransformers(str(tmp_path / "absent"), 4).embed(["stop"])
