"""Embeddings from a service that speaks OpenAI's `POST /embeddings`: a cloud's, or one on this machine.

Every text that is remembered, and every question, goes to that service. A failure is an error of the call
that asked; nothing else is embedded instead.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import anyio
import structlog
from pydantic import BaseModel, Field, SecretStr, ValidationError

from neural_trader_governance.errors import ConfigurationError, IntegrityError, NetworkError
from neural_trader_memory.embedders.port import Vectors
from neural_trader_memory.embedders.units import to_units

if TYPE_CHECKING:
    import httpx

BATCH_TEXTS = 64
ATTEMPTS = 4
WAIT_MAX_S = 20.0
TIMEOUT_S = 30.0
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})

_log = structlog.get_logger(__name__)


class _Item(BaseModel):
    index: int
    embedding: list[float]


class _Answer(BaseModel):
    data: Annotated[list[_Item], Field(max_length=BATCH_TEXTS * 4)]


class EndpointEmbedder:
    """A model behind an address.

    Args:
        url: Up to and without `/embeddings`, such as `https://api.openai.com/v1`.
        model: As the service calls it.
        dimension: How many numbers a vector of it has; another number is refused.
        key: Sent as a bearer token; None sends none.
        wait_s: The first wait before another try, doubled each time; `Retry-After` counts where it is given.
    """

    def __init__(
        self, url: str, model: str, dimension: int, key: SecretStr | None = None, wait_s: float = 0.5
    ) -> None:
        self._url = f"{url.rstrip('/')}/embeddings"
        self._model = model
        self._key = key
        self._wait_s = wait_s
        self.name = f"endpoint:{model}"
        self.dimension = dimension

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Returns one unit vector a text, in the order given, asked for in batches of `BATCH_TEXTS`.

        Raises:
            ConfigurationError: the service refuses the key or the request (`embedder_refused`).
            NetworkError: it does not answer, or not in `ATTEMPTS` tries (`embedder_unavailable`).
            IntegrityError: what it answered are not the vectors that were asked for (`embedding_invalid`).
        """
        import httpx

        made: list[list[float]] = []
        async with httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client:
            for start in range(0, len(texts), BATCH_TEXTS):
                batch = list(texts[start : start + BATCH_TEXTS])
                made += self._read(await self._post(client, batch), len(batch))
        return to_units(made, len(texts), self.name, self.dimension)

    async def _post(self, client: "httpx.AsyncClient", texts: list[str]) -> "httpx.Response":
        import httpx

        headers = {} if self._key is None else {"Authorization": f"Bearer {self._key.get_secret_value()}"}
        body = {"model": self._model, "input": texts, "encoding_format": "float"}
        wait_s, failure = self._wait_s, ""
        for attempt in range(ATTEMPTS):
            asked = None
            try:
                answer = await client.post(self._url, json=body, headers=headers)
            except httpx.TransportError as error:
                failure = type(error).__name__
            else:
                if answer.is_success:
                    return answer
                failure = f"HTTP {answer.status_code}"
                if answer.status_code not in _AGAIN:
                    raise self._refused(failure)
                asked = _retry_after_s(answer.headers.get("retry-after", ""))
            if attempt + 1 < ATTEMPTS:
                _log.info("embedder_retried", reason=failure, attempt=attempt + 1)
                await anyio.sleep(min(wait_s if asked is None else asked, WAIT_MAX_S))
                wait_s *= 2
        raise NetworkError(
            "embedder_unavailable",
            f"the embedder {self.name} did not answer in {ATTEMPTS} tries, at last: {failure}",
            "try again later; what was to be remembered is not kept",
        )

    def _refused(self, failure: str) -> ConfigurationError:
        # Not its words: they are text from outside, and some services repeat the key.
        return ConfigurationError(
            "embedder_refused",
            f"the embedder {self.name} refused with {failure}",
            "check embedder_url, embedder_model and the key (NEURAL_TRADER_EMBEDDER_KEY or the keyring)",
        )

    def _read(self, answer: "httpx.Response", count: int) -> list[list[float]]:
        try:
            items = _Answer.model_validate_json(answer.content).data
        except ValidationError:
            items = []
        if sorted(item.index for item in items) != list(range(count)):
            raise IntegrityError(
                "embedding_invalid",
                f"the embedder {self.name} returned {len(items)} readable vectors for {count} texts; "
                "nothing was kept",
                "check that embedder_url is an OpenAI-compatible address, such as https://api.openai.com/v1",
            )
        return [item.embedding for item in sorted(items, key=lambda item: item.index)]


def _retry_after_s(header: str) -> float | None:
    return float(header) if header.isascii() and header.isdigit() else None
