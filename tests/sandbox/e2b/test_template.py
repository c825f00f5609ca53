"""A template that was built by the recipe: its sandboxes neither wait for an upload nor compile.

The recipe's steps are carried out in a cell of the test service; what they leave is the image of a template.
"""

import platform
import shutil
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.sandbox.e2b.backend import sandbox_at, script
from tests.sandbox.e2b.service.disk import HOME, Disk
from tests.sandbox.e2b.service.processes import Process
from tests.sandbox.e2b.service.server import Service

from neural_trader_sandbox.e2b.recipe import Recipe, recipe
from neural_trader_sandbox.port import Job, Limits, SandboxResult
from neural_trader_server.app import PRELOAD

pytestmark = pytest.mark.anyio

KERNELS = ("tests.sandbox.e2b.kernels",)
JOB = Job(f"{KERNELS[0]}:count", {})
Build = Callable[..., Coroutine[Any, Any, Path]]
ANOTHER_PROCESSOR = {"x86_64": "x86-64-v2", "aarch64": "cortex-a53"}[platform.machine()]


@pytest.fixture
async def build() -> AsyncGenerator[Build]:
    """Carries the steps of a recipe out in a cell; returns the folder of the image."""
    disks: list[Disk] = []

    async def built(made: Recipe, *, processor: str = "") -> Path:
        disk = Disk(256 << 20)
        disks.append(disk)
        disk.write(made.path, made.bundle.data)
        command, *words = made.warming
        if processor:
            code = words.index("-c") + 1
            there = f"runner.ENVIRONMENT.update(NUMBA_CPU_NAME={processor!r}, NUMBA_CPU_FEATURES='');"
            words[code] = words[code].replace("runner.compile", f"{there} runner.compile")
        process = Process(1, command, words, {}, HOME, None)
        await process.start(disk, {"HOME": HOME, "PATH": "/usr/bin:/bin"}, has_stdin=False)
        said = [event async for event in process.events()]
        assert said[-1] == ("end", 0), said
        return disk.root

    yield built
    for disk in disks:
        disk.remove()


def uploads(service: Service) -> int:
    return sum(asked.path == "/files" and asked.method == "POST" for asked in service.log)


async def counted(service: Service) -> SandboxResult:
    result = await sandbox_at(service, KERNELS).run(JOB, Limits(wall_time_s=20))
    assert result.status == "ok", result.error
    return result


async def test_a_sandbox_of_our_template_starts_without_upload_and_without_compiling(
    e2b_service: Service, build: Build
) -> None:
    e2b_service.templates["neural-trader"] = await build(recipe(KERNELS))
    result = await counted(e2b_service)
    assert (result.value, result.notes) == ({"found": 1, "compiled": 0, "total": 10}, ())
    assert uploads(e2b_service) == 0


async def test_a_template_without_our_modules_costs_an_upload_and_a_note_with_the_next_step(
    e2b_service: Service,
) -> None:
    result = await counted(e2b_service)
    assert result.value == {"found": 0, "compiled": 1, "total": 10}
    assert uploads(e2b_service) == 1
    (note,) = result.notes
    assert note.startswith("1 kernels were compiled before the run")
    assert "neural-trader has not the engine of this release" in note
    assert note.endswith("build it: neural-trader sandbox template (docs/sandbox.md, E2B)")


async def test_a_template_of_another_release_is_as_good_as_none(e2b_service: Service, build: Build) -> None:
    e2b_service.templates["neural-trader"] = await build(recipe(("tests.sandbox.e2b.entries", *KERNELS)))
    result = await counted(e2b_service)
    assert (result.value, uploads(e2b_service)) == ({"found": 0, "compiled": 1, "total": 10}, 1)
    assert "not the engine of this release" in result.notes[0]


async def test_kernels_for_another_processor_are_compiled_again_and_the_note_says_so(
    e2b_service: Service, build: Build
) -> None:
    image = await build(recipe(KERNELS), processor=ANOTHER_PROCESSOR)
    e2b_service.templates["neural-trader"] = image
    result = await counted(e2b_service)
    assert (result.value, uploads(e2b_service)) == ({"found": 0, "compiled": 1, "total": 10}, 0)
    assert "has kernels for another processor or numba" in result.notes[0]


@pytest.mark.parametrize("content", [b"no zip", None])
async def test_a_bundle_whose_content_is_another_than_its_name_says_is_sent_again(
    e2b_service: Service, tmp_path: Path, content: bytes | None
) -> None:
    disk, made = Disk(256 << 20), recipe(KERNELS)
    disk.write(made.path, recipe(()).bundle.data if content is None else content)
    image = shutil.copytree(disk.root, tmp_path / "image")
    disk.remove()
    e2b_service.templates["neural-trader"] = image
    assert (await counted(e2b_service)).value == {"found": 0, "compiled": 1, "total": 10}
    assert uploads(e2b_service) == 1


@pytest.mark.slow
async def test_a_probe_has_the_note_too(e2b_service: Service) -> None:
    report = await sandbox_at(e2b_service, KERNELS).probe()
    assert len(report.notes) == 1, report
    assert report.notes[0].startswith("1 kernels were compiled")


@pytest.mark.slow
async def test_the_engine_is_in_the_template_with_every_kernel(e2b_service: Service, build: Build) -> None:
    sandbox = sandbox_at(e2b_service, PRELOAD, start_timeout_s=180)
    stale = await sandbox.run(script("result = 1"))
    assert len(stale.notes) == 1, stale
    assert int(stale.notes[0].split()[0]) > 20
    e2b_service.templates["neural-trader"] = await build(recipe(PRELOAD))
    fresh = await sandbox.run(script("result = 1"))
    assert (fresh.status, fresh.value, fresh.notes) == ("ok", 1, ())
    assert uploads(e2b_service) == 1
    assert fresh.charged_ms < stale.charged_ms
    print(f"charged {stale.charged_ms:.0f} ms, with the template {fresh.charged_ms:.0f} ms: {stale.notes}")  # noqa: T201 - for the docs
