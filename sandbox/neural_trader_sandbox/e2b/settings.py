"""Where the sandboxes of the e2b backend are, and how long anything there may take."""

import os
from typing import Final, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from neural_trader_governance.addresses import Address, is_loopback, is_proxied
from neural_trader_governance.errors import ConfigurationError

DOMAIN: Final = "e2b.app"
FOLDER: Final = "/home/user/neural-trader"
"""Numba's cache knows kernels by the path of their sources: the template and its sandboxes share this one."""

_REDIRECTING = ("E2B_API_URL", "E2B_SANDBOX_URL", "E2B_DOMAIN", "E2B_DEBUG")


class E2BSettings(BaseModel):
    """What the e2b backend must know.

    Attributes:
        api_key: Sent to `api_url` only.
        template: Name or id of the template that `recipe` built.
        domain: Of the service: https://api.DOMAIN is its control plane.
        api_url: The control plane of a self-hosted or a test service, instead of the domain's.
        sandbox_url: Where its sandboxes are reached, where that is one address.
        home_id: Tells this desk's sandboxes from others of the same account; no secret.
        request_timeout_s: Our deadline for one request.
        start_timeout_s: Our deadline for a sandbox to be made, checked and loaded.
        lifetime_s: After so many seconds the service itself ends a sandbox that we no longer hold on to.
        warm: Sandboxes kept loaded and waiting; each costs money while it waits.
        folder: Of ours inside a sandbox; another than the default finds nothing of what the template brings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_key: SecretStr | None = None
    template: str = Field(default="neural-trader", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/\-]{0,127}$")
    domain: str = Field(default=DOMAIN, pattern=r"^[a-z0-9]([a-z0-9.\-]{0,250}[a-z0-9])?$")
    api_url: Address | None = None
    sandbox_url: Address | None = None
    home_id: str = Field(default="", pattern=r"^[0-9a-f]{0,64}$")
    request_timeout_s: float = Field(default=20.0, ge=0.1, le=600)
    start_timeout_s: float = Field(default=180.0, ge=0.1, le=1800)
    lifetime_s: int = Field(default=300, ge=5, le=3600)
    warm: int = Field(default=0, ge=0, le=16)
    folder: str = Field(default=FOLDER, pattern=r"^/[A-Za-z0-9_./\-]{1,200}$")

    @model_validator(mode="after")
    def _both_addresses(self) -> Self:
        if self.sandbox_url is not None and self.api_url is None:
            raise ValueError("sandbox_url needs api_url: a service has a control plane too")
        return self

    @property
    def destination(self) -> str:
        """Where strategies and data go; what a person consents to."""
        if self.api_url is None:
            return self.domain
        hosts = [urlsplit(url).netloc for url in (self.api_url, self.sandbox_url) if url]
        if self.sandbox_url is None:
            hosts.append(self.domain)  # its sandboxes are reached below the domain
        return ",".join(dict.fromkeys(hosts))

    @property
    def is_on_this_machine(self) -> bool:
        """The service is a test server, or tunnelled."""
        return self.api_url is not None and is_loopback(urlsplit(self.api_url).hostname or "")

    def connection(self) -> dict[str, object]:
        """The parameters of every call of the SDK; nothing is left to its own environment variables.

        Raises:
            ConfigurationError: There is no key (`e2b_key_missing`), or the environment would have the
                SDK send it elsewhere, or through a proxy in the clear (`e2b_environment`).
        """
        if self.api_key is None or not self.api_key.get_secret_value():
            raise ConfigurationError(
                "e2b_key_missing",
                f"there is no API key for {self.destination}",
                "set E2B_API_KEY or NEURAL_TRADER_E2B_API_KEY, or run: keyring set neural-trader e2b",
            )
        api_url = self.api_url or f"https://api.{self.domain}"
        ours = {"E2B_API_URL": api_url, "E2B_SANDBOX_URL": self.sandbox_url, "E2B_DOMAIN": self.domain}
        for name in _REDIRECTING:
            value = os.environ.get(name, "")
            if value.lower() not in ("", "false") and value != ours.get(name):
                raise ConfigurationError(
                    "e2b_environment",
                    f"the variable {name} would lead the e2b SDK elsewhere than {self.destination}",
                    f"unset it; what counts are NEURAL_TRADER_{name} or e2b_… in the home's config.toml",
                )
        for url in filter(None, (api_url, self.sandbox_url)):
            if url.startswith("http://") and is_proxied(urlsplit(url).hostname or ""):
                raise ConfigurationError(
                    "e2b_environment",
                    f"a proxy variable would carry the API key to a proxy unencrypted, on the way to {url}",
                    "set NO_PROXY=127.0.0.1,localhost, or unset HTTP_PROXY and ALL_PROXY",
                )
        known: dict[str, object] = {
            "api_key": self.api_key.get_secret_value(),
            "domain": self.domain,
            "api_url": api_url,
            "debug": False,
            "request_timeout": self.request_timeout_s,
        }
        return known | ({"sandbox_url": self.sandbox_url} if self.sandbox_url else {})
