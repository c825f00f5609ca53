"""The template's recipe, the bundle and the settings: what is decided before anything is contacted."""

import io
import json
import shlex
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from e2b import AsyncTemplate
from pydantic import SecretStr, ValidationError

from neural_trader_governance.errors import ConfigurationError
from neural_trader_sandbox.e2b import boxes, recipe
from neural_trader_sandbox.e2b.bundle import bundle
from neural_trader_sandbox.e2b.settings import E2BSettings

pytestmark = pytest.mark.anyio
CONSTRAINTS = Path(__file__).parents[3] / "constraints.txt"
ENGINE = ("numpy", "polars", "neural_trader_tools.engine.guest", "neural_trader_tools.features.catalogue")


def test_the_recipe_pins_what_this_release_pins() -> None:
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if line.partition("==")[0] in recipe.VERSIONS]
    assert sorted(recipe.REQUIREMENTS) == sorted(pinned)


def test_the_sdk_takes_the_recipe_and_the_dockerfile_says_the_same(tmp_path: Path) -> None:
    made = recipe.recipe(ENGINE)
    made.write(tmp_path)
    steps = json.loads(AsyncTemplate.to_json(made.template(tmp_path)))["steps"]
    written = [" ".join(step["args"]) for step in steps]
    dockerfile = (tmp_path / "Dockerfile").read_text(encoding="utf-8")
    for line in (*recipe.REQUIREMENTS, f"{made.bundle.digest}.zip {made.path}", shlex.join(made.warming)):
        assert any(line in step for step in written), line
        assert line in dockerfile
    assert (tmp_path / f"{made.bundle.digest}.zip").read_bytes() == made.bundle.data


async def test_the_service_is_told_to_build_with_the_settings_key_and_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, object] = {}

    async def built(template: object, name: str, **options: object) -> SimpleNamespace:
        told.update(options, name=name)
        return SimpleNamespace(template_id="tpl_1")

    monkeypatch.setattr(AsyncTemplate, "build", built)
    settings = E2BSettings(api_key=SecretStr("e2b_key"), api_url="https://a.example")
    connection = settings.connection()
    assert await recipe.build(recipe.recipe(()), "mine", tmp_path, connection) == "tpl_1"
    assert (told["name"], told["api_key"], told["api_url"]) == ("mine", "e2b_key", "https://a.example")


def test_a_sandbox_tells_the_digest_of_what_it_has_however_it_was_compressed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = bundle(())
    repacked = tmp_path / f"{packed.digest}.zip"
    with zipfile.ZipFile(io.BytesIO(packed.data)) as archive, zipfile.ZipFile(repacked, "w") as stored:
        for name in reversed(archive.namelist()):
            stored.writestr(name, archive.read(name))
    assert repacked.stat().st_size > 2 * len(packed.data)
    exec(boxes.check_in(str(tmp_path)), {})  # noqa: S102 - ours, as it is run in the sandbox
    assert json.loads(capsys.readouterr().out)["bundles"] == [packed.digest]


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
