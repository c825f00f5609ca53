"""Settings: where they come from, and from where a secret may not."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from neural_trader_governance.errors import ConfigurationError
from neural_trader_server.home import Home
from neural_trader_server.settings import KEYRING_NAMES, Settings, load_settings, secret_names

CANARY = "a-secret-that-nobody-quotes"


@pytest.fixture
def fresh(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.path.mkdir()
    return home


def test_every_setting_that_is_redacted_is_known_as_a_secret() -> None:
    given: dict[str, Any] = {
        name: (SecretStr(f"https://{name}.test"),) if name == "alert_webhooks" else SecretStr(f"{name:_<20}")
        for name in secret_names()
    }
    assert len(Settings.model_construct(**given).secrets()) == len(given)
    assert set(KEYRING_NAMES) < set(given)


@pytest.mark.parametrize("name", secret_names())
@pytest.mark.parametrize("in_environment", [False, True])
def test_a_file_that_holds_a_secret_is_refused_and_says_where_it_belongs(
    fresh: Home, monkeypatch: pytest.MonkeyPatch, name: str, in_environment: bool
) -> None:
    value = f'["https://{CANARY}.test"]' if name == "alert_webhooks" else f'"{CANARY}"'
    fresh.config.write_text(f'log_level = "error"\n{name} = {value}\n')
    if in_environment:  # which would win, and still the file is a place that leaks
        monkeypatch.setenv(f"NEURAL_TRADER_{name.upper()}", value if name == "alert_webhooks" else CANARY)
    with pytest.raises(ConfigurationError) as refused:
        load_settings(fresh)
    said = str(refused.value)
    assert refused.value.code == "secret_in_config"
    assert f"NEURAL_TRADER_{name.upper()}" in refused.value.next_step
    assert (f"keyring set neural-trader {KEYRING_NAMES.get(name)}`" in said) == (name in KEYRING_NAMES)
    assert CANARY not in said


def test_the_keyring_of_another_broker_is_named_for_that_broker(fresh: Home) -> None:
    fresh.config.write_text(f'broker = "ccxt"\nbroker_key_id = "{CANARY}"\n')
    with pytest.raises(ConfigurationError, match="neural-trader ccxt-key-id"):
        load_settings(fresh)


def test_a_secret_of_the_environment_is_read_beside_a_file_of_plain_settings(
    fresh: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.config.write_text('e2b_template = "mine"\n')
    monkeypatch.setenv("NEURAL_TRADER_E2B_API_KEY", CANARY)
    settings = load_settings(fresh)
    assert settings.e2b_template == "mine"
    assert settings.e2b_api_key is not None
    assert settings.e2b_api_key.get_secret_value() == CANARY
