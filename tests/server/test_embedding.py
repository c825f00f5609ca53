"""Which embedder the settings choose, and what they refuse."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from neural_trader_governance.errors import ConfigurationError
from neural_trader_server.embedding import make_embedder
from neural_trader_server.settings import Settings

CONFIG = Path("home", "config.toml")
SERVICE: dict[str, Any] = {"embedder": "openai", "embedder_model": "small", "embedder_dimension": 8}


@pytest.mark.parametrize(
    ("chosen", "name", "dimension"),
    [
        ({}, "all-MiniLM-L6-v2", 384),
        ({"embedder": "wordllama"}, "wordllama-l2-supercat", 256),
        (
            {
                "embedder": "sentence-transformers",
                "embedder_model": "/models/e5",
                "embedder_dimension": 1024,
            },
            "sentence-transformers:e5",
            1024,
        ),
        (SERVICE, "endpoint:small", 8),
        (SERVICE | {"embedder_url": "http://127.0.0.1:8080/v1"}, "endpoint:small", 8),
    ],
)
def test_the_setting_chooses_and_nothing_is_loaded_yet(
    chosen: dict[str, Any], name: str, dimension: int
) -> None:
    embedder = make_embedder(Settings(**chosen), CONFIG)
    assert (embedder.name, embedder.dimension) == (name, dimension)


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"embedder": "openai", "embedder_dimension": 8}, "embedder_model"),
        ({"embedder": "sentence-transformers", "embedder_model": "e5"}, "embedder_dimension"),
        (SERVICE | {"embedder_url": "http://example.com/v1"}, "embedder_url"),
        (SERVICE | {"embedder_url": "ftp://127.0.0.1/v1"}, "embedder_url"),
    ],
)
def test_a_choice_that_lacks_something_names_the_setting(chosen: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match="invalid_setting") as caught:
        make_embedder(Settings(**chosen), CONFIG)
    assert says in caught.value.what
    assert says.upper() in caught.value.next_step


def test_the_key_is_a_secret_of_the_settings() -> None:
    settings = Settings(**SERVICE, embedder_key=SecretStr("key-of-the-embedder"))
    assert "key-of-the-embedder" in settings.secrets()
