import importlib.util
import json
import shutil
import sys
from pathlib import Path

import anyio
import numpy as np
import pytest

from neural_trader_governance.errors import ConfigurationError, HostError
from neural_trader_memory.embedders import minilm as module
from neural_trader_memory.embedders.minilm import MiniLm, find_weights

pytestmark = pytest.mark.anyio

STOPPED = "The protective stop got triggered following an earnings gap"
TEXTS = ["stop loss was hit after earnings gap", STOPPED, "banana bread recipe", "short", "", STOPPED * 30]
# Computed once by this forward pass; it agreed to 1.9e-7 with an independent one that uses scipy's erf.
PINNED = [-0.01452291, 0.04389012, 0.05936953, -0.00767281, 0.05167573, 0.05851017, -0.01946097, 0.00819981]


async def test_vectors_have_unit_length_and_the_stated_shape(minilm: MiniLm) -> None:
    vectors = await minilm.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), minilm.dimension)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-6)
    assert (await minilm.embed([])).shape == (0, minilm.dimension)


async def test_a_paraphrase_is_closer_than_another_subject(minilm: MiniLm) -> None:
    hit, paraphrase, bread = await minilm.embed(TEXTS[:3])
    assert hit @ paraphrase > 0.75
    assert hit @ bread < 0.2


async def test_the_vector_of_a_known_sentence_has_not_changed(minilm: MiniLm) -> None:
    vector = (await minilm.embed(TEXTS[:1]))[0]
    assert vector[:8] == pytest.approx(np.array(PINNED), abs=1e-5)


async def test_a_text_alone_and_among_longer_ones_has_the_same_vector(minilm: MiniLm) -> None:
    together = await minilm.embed(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        assert (await minilm.embed([text]))[0] == pytest.approx(vector, abs=1e-5)


async def test_many_texts_keep_their_order_across_batches(minilm: MiniLm) -> None:
    texts = [f"trade {'again ' * (number % 7)}{number}" for number in range(70)]
    together = await minilm.embed(texts)
    for number in (0, 31, 32, 69):
        assert (await minilm.embed([texts[number]]))[0] == pytest.approx(together[number], abs=1e-5)


async def test_the_end_of_a_long_text_is_heard(minilm: MiniLm) -> None:
    filler = "The weather was mild and nothing of note occurred that day. " * 40
    plain, ending, asked = await minilm.embed([filler, filler + "AAPL fell. " * 60, "AAPL fell"])
    assert ending @ asked > plain @ asked + 0.2


async def test_two_first_calls_at_once_read_the_weights_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Path] = []

    def find() -> Path:
        looked.append(find_weights())
        return looked[-1]

    monkeypatch.setattr(module, "find_weights", find)
    fresh = MiniLm()
    async with anyio.create_task_group() as group:
        for text in TEXTS[:3]:
            group.start_soon(fresh.embed, [text])
    assert len(looked) == 1


async def test_missing_weights_are_an_error_that_names_the_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WEIGHTS_PACKAGE", "no_such_package_of_weights")
    with pytest.raises(HostError, match=r"embedder_missing: .*run `neural-trader setup`"):
        await MiniLm().embed(["x"])


@pytest.mark.parametrize("broken", ["model.safetensors", "tokenizer.json", "config.json"])
async def test_damaged_weights_are_an_error_and_not_an_embedding(tmp_path: Path, broken: str) -> None:
    for name in ("tokenizer.json", "config.json"):
        shutil.copy(find_weights() / name, tmp_path / name)
    (tmp_path / "model.safetensors").symlink_to(find_weights() / "model.safetensors")
    (tmp_path / broken).unlink()
    (tmp_path / broken).write_bytes(json.dumps({"hidden_size": 1}).encode())
    with pytest.raises(ConfigurationError, match="embedder_invalid"):
        await MiniLm(tmp_path).embed(["x"])


async def test_neither_torch_nor_a_hub_nor_the_package_itself_is_imported(minilm: MiniLm) -> None:
    await minilm.embed(["x"])
    assert not {"torch", "huggingface_hub", "sentence_transformers", module.WEIGHTS_PACKAGE} & set(
        sys.modules
    )
    assert importlib.util.find_spec(module.WEIGHTS_PACKAGE) is not None
