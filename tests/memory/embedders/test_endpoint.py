import json
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from neural_trader_governance.errors import ConfigurationError, IntegrityError, NetworkError
from neural_trader_memory.embedders.endpoint import ATTEMPTS, BATCH_TEXTS, EndpointEmbedder

pytestmark = pytest.mark.anyio


@dataclass
class Service:
    """A loopback service that speaks `POST /v1/embeddings`, and fails as it is told to."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    keys: list[str | None] = field(default_factory=list[str | None])
    statuses: list[int] = field(default_factory=list[int])
    spoil: Callable[[list[dict[str, Any]]], Any] | None = None

    def answer(self, body: dict[str, Any], key: str | None) -> tuple[int, bytes]:
        self.asked.append(body)
        self.keys.append(key)
        status = self.statuses.pop(0) if self.statuses else 200
        if status != 200:
            return status, b'{"error": {"message": "secret-key was refused"}}'
        data = [
            {"index": at, "embedding": [float(len(text)), 1.0, 0.0]} for at, text in enumerate(body["input"])
        ]
        made = {"data": data} if self.spoil is None else self.spoil(data)
        return 200, made if isinstance(made, bytes) else json.dumps(made).encode()


@pytest.fixture
def service() -> Generator[Service]:
    told = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/embeddings"
            status, content = told.answer(json.loads(body), self.headers["authorization"])
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            if status == 429:
                self.send_header("retry-after", "0")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002 - the base's name

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


def embedder(service: Service, key: str | None = "secret-key") -> EndpointEmbedder:
    return EndpointEmbedder(service.url, "small", 3, SecretStr(key) if key else None, wait_s=0)


async def test_texts_are_asked_for_in_batches_and_come_back_in_order(service: Service) -> None:
    def spoil(data: list[dict[str, Any]]) -> Any:
        return {"data": data[::-1], "model": "small", "usage": {}}

    service.spoil = spoil
    texts = ["x" * (1 + number % 50) for number in range(BATCH_TEXTS + 6)]
    vectors = await embedder(service).embed(texts)
    assert [len(body["input"]) for body in service.asked] == [BATCH_TEXTS, 6]
    assert service.keys == ["Bearer secret-key"] * 2
    assert vectors.dtype == np.float32
    assert vectors[:, 0] / vectors[:, 1] == pytest.approx([len(text) for text in texts], rel=1e-5)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-6)


async def test_a_service_without_keys_is_sent_none_and_no_texts_ask_nothing(service: Service) -> None:
    assert (await embedder(service, None).embed([])).shape == (0, 3)
    assert service.asked == []
    await embedder(service, None).embed(["gap"])
    assert service.keys == [None]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_refusal_is_told_at_once_without_the_services_words(service: Service, status: int) -> None:
    service.statuses = [status]
    with pytest.raises(ConfigurationError, match="embedder_refused") as caught:
        await embedder(service).embed(["gap"])
    assert len(service.asked) == 1
    assert str(status) in caught.value.what
    assert "secret-key" not in str(caught.value)


async def test_a_busy_service_is_asked_again_and_then_answers(service: Service) -> None:
    service.statuses = [429, 503, 500]
    assert (await embedder(service).embed(["gap"])).shape == (1, 3)
    assert len(service.asked) == 4


async def test_a_service_that_stays_busy_ends_in_an_error(service: Service) -> None:
    service.statuses = [429] * 9
    with pytest.raises(NetworkError, match="embedder_unavailable"):
        await embedder(service).embed(["gap"])
    assert len(service.asked) == ATTEMPTS


async def test_a_service_that_is_not_there_ends_in_an_error() -> None:
    absent = EndpointEmbedder("http://127.0.0.1:9/v1", "small", 3, wait_s=0)
    with pytest.raises(NetworkError, match="embedder_unavailable"):
        await absent.embed(["gap"])


def one(embedding: list[Any], index: int = 0) -> dict[str, Any]:
    return {"index": index, "embedding": embedding}


@pytest.mark.parametrize(
    "made",
    [
        {"data": [one([1, 2]), one([1, 2], 1)]},
        {"data": [one([1, 2, 3])]},
        {"data": [one([1, 2, 3]), one([1, 2, 3], 1), one([1, 2, 3], 2)]},
        {"data": [one([1, 2, 3]), one([1, 2, 3])]},
        {"data": [one([1, 2, 3]), one([0, 0, 0], 1)]},
        {"data": [one([1, 2, 3]), one(["one", 2, 3], 1)]},
        b'{"data": [{"index": 0, "embedding": [1, 2, NaN]}, {"index": 1, "embedding": [1, 2, 3]}]}',
        b'{"data": [{"index": 0, "embedding": [1, 2, 1e999]}, {"index": 1, "embedding": [1, 2, 3]}]}',
        b"<html>a proxy speaks</html>",
        {"data": "none"},
    ],
    ids=["dimension", "fewer", "more", "twice", "zero", "words", "nan", "infinite", "html", "shape"],
)
async def test_what_are_not_the_vectors_asked_for_is_refused(service: Service, made: Any) -> None:
    def spoil(_: object) -> Any:
        return made

    service.spoil = spoil
    with pytest.raises(IntegrityError, match="embedding_invalid"):
        await embedder(service).embed(["gap", "stop"])
