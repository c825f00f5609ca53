"""The embedder that the settings choose. There is no fallback: one that is missing is an error."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.redaction import remember

if TYPE_CHECKING:
    from neural_trader_memory.embedders.port import Embedder
    from neural_trader_server.settings import Settings

KEYRING_SERVICE = "neural-trader"
KEYRING_NAME = "embedder"


def make_embedder(settings: "Settings", config: Path) -> "Embedder":
    """Returns the embedder; weights are read, and a service is asked, on its first use.

    Args:
        settings: Of the home.
        config: The home's config.toml, for messages.

    Raises:
        ConfigurationError: a setting that the chosen one needs is missing, or its address is neither
            encrypted nor of this machine.
    """
    from neural_trader_server.settings import is_loopback

    if settings.embedder == "minilm":
        from neural_trader_memory.embedders.minilm import MiniLm

        return MiniLm()
    if settings.embedder == "wordllama":
        from neural_trader_memory.embedders.wordllama import WordLlama

        return WordLlama()
    for name in ("embedder_model", "embedder_dimension"):
        if not getattr(settings, name):
            raise _missing(settings, name, config)
    if settings.embedder == "sentence-transformers":
        from neural_trader_memory.embedders.sentences import SentenceTransformers

        return SentenceTransformers(settings.embedder_model, settings.embedder_dimension)
    from neural_trader_memory.embedders.endpoint import EndpointEmbedder

    url = settings.embedder_url
    if not url.startswith("https://") and not (url.startswith("http://") and is_loopback(url)):
        raise ConfigurationError(
            "invalid_setting",
            "embedder_url is neither https:// nor http:// of this machine; memories would travel in the open",
            f"fix NEURAL_TRADER_EMBEDDER_URL or the line `embedder_url = …` in {config}",
        )
    return EndpointEmbedder(url, settings.embedder_model, settings.embedder_dimension, _key(settings))


def _missing(settings: "Settings", name: str, config: Path) -> ConfigurationError:
    return ConfigurationError(
        "invalid_setting",
        f'embedder = "{settings.embedder}" needs {name}',
        f"set NEURAL_TRADER_{name.upper()} or the line `{name} = …` in {config}",
    )


def _key(settings: "Settings") -> SecretStr | None:
    """Our setting, else the operating system's keyring; a service on this machine may need none."""
    found = settings.embedder_key.get_secret_value() if settings.embedder_key is not None else ""
    if not found and not os.environ.get("PYTHON_KEYRING_BACKEND", "").endswith("null.Keyring"):
        import keyring
        from keyring.errors import KeyringError

        try:
            found = keyring.get_password(KEYRING_SERVICE, KEYRING_NAME) or ""
        except KeyringError:
            found = ""
    if not found:
        return None
    remember(found)
    return SecretStr(found)
