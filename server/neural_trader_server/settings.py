"""Settings: `NEURAL_TRADER_*` variables over `config.toml` in the home, over the defaults here."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from neural_trader_governance.errors import ConfigurationError
from neural_trader_governance.terms.instruments import Symbol

if TYPE_CHECKING:
    from neural_trader_server.home import Home


class Settings(BaseSettings):
    """What an operator may choose. Unknown names in `config.toml` are refused."""

    model_config = SettingsConfigDict(env_prefix="NEURAL_TRADER_", extra="forbid", frozen=True)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    agent: str = Field(
        default="agent-1",
        pattern=r"^[a-z0-9][a-z0-9_\-.]{0,39}$",
        description="The agent that calls over stdio",
    )
    principal: str = Field(default="owner", max_length=80, description="The person whom the agent serves")
    paper_cash_usd: Decimal = Field(default=Decimal(100_000), gt=0, le=Decimal(1_000_000_000))
    restricted_symbols: frozenset[Symbol] = Field(
        default=frozenset(), description='What no agent may trade, such as ["GME"]'
    )
    tool_deadline_s: float = Field(
        default=120.0, gt=0, le=3600, description="The longest a tool call may take"
    )


def load_settings(home: "Home") -> Settings:
    """Reads the settings of a home.

    Raises:
        ConfigurationError: a variable or a line of `config.toml` is not valid.
    """

    class HomeSettings(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, home.config))

    try:
        values: dict[str, Any] = HomeSettings().model_dump()
        return Settings.model_construct(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(
            "invalid_setting",
            f"{name}: {first['msg']}",
            f"fix NEURAL_TRADER_{name.upper()} or the line `{name} = …` in {home.config}",
        ) from error
    except ValueError as error:  # tomllib's own error is a ValueError
        raise ConfigurationError(
            "invalid_config", f"{home.config} is not TOML: {error}", "fix the file or move it away"
        ) from error
