import importlib.util
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType] - bare PathLike
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from neural_trader_governance.errors import ConfigurationError, HostError, IntegrityError
from neural_trader_memory.embedders.wordllama import TOKENIZER, WEIGHTS, WordLlama

pytestmark = pytest.mark.anyio

installed = pytest.mark.skipif(
    importlib.util.find_spec("wordllama") is None, reason="the extra wordllama is not installed"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of four words, in the package's own layout and formats."""
    table = np.zeros((4, 256), np.float16)
    table[np.arange(4), np.arange(4)] = 1
    for place in (WEIGHTS, TOKENIZER):
        (tmp_path / place).parent.mkdir()
    save_file({"embedding.weight": table}, tmp_path / WEIGHTS)
    words = {"stop": 0, "gap": 1, "trend": 2, "beyond": 9}
    made = Tokenizer(WordLevel(words, unk_token="stop"))
    made.pre_tokenizer = Whitespace()
    made.save(str(tmp_path / TOKENIZER))
    return tmp_path


async def test_a_vector_is_the_mean_of_its_tokens_at_unit_length(folder: Path) -> None:
    one, two, three = await WordLlama(folder).embed(["gap", "gap trend", "gap gap trend beyond"])
    assert one.dtype == np.float32
    assert one[:4].tolist() == [0, 1, 0, 0]
    assert two[:4] == pytest.approx([0, 0.5**0.5, 0.5**0.5, 0])
    assert three[:4] == pytest.approx(np.array([0, 2, 1, 1]) / 6**0.5)


async def test_no_texts_give_no_vectors_and_a_text_without_tokens_is_refused(folder: Path) -> None:
    embedder = WordLlama(folder)
    assert (await embedder.embed([])).shape == (0, 256)
    with pytest.raises(IntegrityError, match="embedding_invalid"):
        await embedder.embed(["gap", ""])


async def test_other_files_are_refused(folder: Path) -> None:
    save_file({"embedding.weight": np.zeros((4, 64), np.float16)}, folder / WEIGHTS)
    with pytest.raises(ConfigurationError, match="embedder_invalid"):
        await WordLlama(folder).embed(["gap"])


async def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(name: str) -> None: ...

    monkeypatch.setattr(importlib.util, "find_spec", find_nothing)
    with pytest.raises(HostError, match="embedder_missing") as caught:
        await WordLlama().embed(["gap"])
    assert "neural-trader[wordllama]" in caught.value.next_step


@installed
async def test_the_packages_own_vectors_are_met() -> None:
    vector = (await WordLlama().embed(["stop loss was hit after earnings gap"]))[0]
    # From WordLlama.load(...).embed(texts, norm=True) of wordllama 0.4.0.post1.
    assert vector[:6] == pytest.approx([0.05154, -0.00236, -0.03239, -0.05683, -0.10928, -0.08048], abs=2e-5)
