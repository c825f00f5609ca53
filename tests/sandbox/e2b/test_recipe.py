"""The template's recipe, the bundle and the settings: what is decided before anything is contacted."""

import io
import zipfile
from pathlib import Path

import pytest
from e2b import AsyncTemplate
from pydantic import ValidationError

from neural_trader_governance.errors import ConfigurationError
from neural_trader_sandbox.e2b import recipe
from neural_trader_sandbox.e2b.bundle import bundle
from neural_trader_sandbox.e2b.settings import E2BSettings

CONSTRAINTS = Path(__file__).parents[3] / "constraints.txt"
ENGINE = ("numpy", "polars", "neural_trader_tools.engine.guest", "neural_trader_tools.features.catalogue")


def test_the_recipe_pins_what_this_release_pins() -> None:
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if line.partition("==")[0] in recipe.VERSIONS]
    assert sorted(recipe.REQUIREMENTS) == sorted(pinned)


def test_the_sdk_takes_the_recipe_and_the_dockerfile_says_the_same() -> None:
    written = AsyncTemplate.to_json(recipe.template())
    for line in recipe.REQUIREMENTS:
        assert line in written
        assert line in recipe.dockerfile()


def test_the_bundle_holds_the_engine_and_is_the_same_twice() -> None:
    first = bundle(ENGINE)
    assert first == bundle(ENGINE)
    assert {"neural_trader_tools.engine.kernel", "neural_trader_tools.features.kernels"} <= set(first.modules)
    with zipfile.ZipFile(io.BytesIO(first.data)) as archive:
        names = archive.namelist()
    assert "neural_trader_tools/engine/kernel.py" in names
    strange = [name for name in names if "server" in name or "governance" in name or "orders/" in name]
    assert strange == []


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"sandbox_preload_missing.*no_such_module"):
        bundle(["neural_trader_tools.no_such_module"])


@pytest.mark.parametrize(
    "values",
    [
        {"api_url": "http://example.com"},
        {"api_url": "https://user:word@example.com"},
        {"sandbox_url": "https://example.com"},
        {"domain": "e2b.app/evil"},
        {"template": "--flag"},
        {"unknown": 1},
    ],
)
def test_settings_that_could_send_the_key_elsewhere_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        E2BSettings.model_validate(values)


def test_the_destination_names_every_host_that_data_goes_to() -> None:
    assert E2BSettings().destination == "e2b.app"
    assert E2BSettings(api_url="https://a.example").destination == "a.example,e2b.app"
    both = E2BSettings(api_url="https://a.example", sandbox_url="https://b.example:8443")
    assert both.destination == "a.example,b.example:8443"
