"""The desk's secrets: planted in its environment, memory, files and descriptors, then looked for from inside.

The sandbox of this module starts after they were planted. The scan reads every page that the guest can
read: the heap that the zygote left it, stacks, libraries, the interpreter's own data.
"""

import os
import subprocess
import sys
from collections.abc import Iterator

import anyio
import pytest

from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Job, Limits, SandboxResult

CANARY = "canary-" + "9d1f7c" + "-of-the-desk"
NAMES = (
    "NEURAL_TRADER_E2B_API_KEY",
    "E2B_API_KEY",
    "APCA_API_SECRET_KEY",
    "BROKER_SECRET",
    "AWS_SECRET_ACCESS_KEY",
)
SCAN = """
import ctypes, os, re, tempfile
libc = ctypes.CDLL(None, use_errno=True)
libc.pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
libc.malloc.restype = ctypes.c_void_p
libc.pwrite.restype = ctypes.c_ssize_t
probe = os.open(tempfile.gettempdir() + "/page", os.O_RDWR | os.O_CREAT)
PAGE, GAP = 4096, 2048  # a region ends where 8 MiB cannot be read
def readable(page): return libc.pwrite(probe, page, PAGE, 0) == PAGE
# a class of one letter each: neither this text nor the compiled pattern holds what it looks for
pattern = re.compile("".join("[" + letter + "]" for letter in @letters@).encode())
pages, hits, seen = 0, 0, []
def look(start, size):
    global hits
    hits += len(pattern.findall((ctypes.c_char * size).from_address(start)))
def sweep(seed):
    global pages
    if any(low <= seed < high for low, high in seen): return
    ends = []
    for step in (PAGE, -PAGE):
        page, missing, run = seed & -PAGE if step > 0 else (seed & -PAGE) - PAGE, 0, 0
        while missing < GAP and page > 0:
            if any(low <= page < high for low, high in seen): break
            if readable(page): run, missing, pages = run + PAGE, 0, pages + 1
            else: missing += 1
            if run and (missing == 1 or run >= 1 << 20):
                low = page - run + (0 if missing else PAGE) if step > 0 else page + (PAGE if missing else 0)
                look(low, run); run = 0
            page += step
        if run: look(page - run if step > 0 else page + PAGE, run)
        ends.append(page)
    seen.append((min(ends), max(ends)))
seeds = [id(object()), id(re), libc.malloc(64), libc.malloc(1 << 22), ctypes.addressof(ctypes.c_char(0))]
environ = ctypes.c_void_p.in_dll(libc, "environ")
seeds += [ctypes.addressof(environ), environ.value]
functions = (libc.getenv, ctypes.pythonapi.Py_IsInitialized)
seeds += [ctypes.cast(function, ctypes.c_void_p).value for function in functions]
seeds += [id(module) for module in list(__import__("sys").modules.values())[:400]]
try: seeds.append(ctypes.c_void_p.in_dll(libc, "__libc_stack_end").value)
except ValueError: pass
for seed in seeds: sweep(seed)
result = {"pages": pages, "hits": hits}
"""


def scan(text: str = CANARY) -> str:
    return SCAN.replace("@letters@", repr(list(text)))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    """A desk with the canary in its environment, memory, a descriptor and a file, and then a sandbox."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "key").write_text(CANARY)
    held = os.open(folder / "key", os.O_RDONLY)
    os.set_inheritable(held, True)
    memory = [CANARY * 64, (CANARY * 64).encode()]
    before = {name: os.environ.get(name) for name in NAMES}
    os.environ.update(dict.fromkeys(NAMES, CANARY))
    sandbox = LocalSandbox(["numpy"], cache_dir=tmp_path_factory.mktemp("kernels"))
    try:
        yield sandbox
        anyio.run(sandbox.aclose)
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        os.close(held)
        assert memory


async def run(desk: LocalSandbox, source: str) -> SandboxResult:
    job = Job("neural_trader_sandbox.script:run_script", {"source": source})
    return await desk.run(job, Limits(wall_time_s=30))


@pytest.mark.anyio
async def test_no_page_that_the_guest_can_read_holds_a_secret(
    sandbox: LocalSandbox, desk: LocalSandbox
) -> None:
    del sandbox  # skips where the host lacks a layer
    result = await run(desk, scan())
    assert isinstance(result.value, dict), result
    assert result.value["hits"] == 0
    assert int(str(result.value["pages"])) > 5_000  # 20 MiB: it did read the interpreter and numpy
    print(f"memory scan: {result.value['pages']} pages, nothing found")  # noqa: T201 - read with -s


@pytest.mark.anyio
@pytest.mark.parametrize("place", ["bytearray", "str", "libc.strdup"])
async def test_the_scan_finds_what_the_guest_itself_holds(
    sandbox: LocalSandbox, desk: LocalSandbox, place: str
) -> None:
    del sandbox
    kept = f"''.join({list(CANARY)!r})"
    plant = {
        "bytearray": f"kept = bytearray({kept}.encode())",
        "str": f"kept = {kept}",
        "libc.strdup": f"import ctypes\nctypes.CDLL(None).strdup({kept}.encode())",
    }[place]
    result = await run(desk, plant + "\n" + scan())
    assert isinstance(result.value, dict), result
    assert int(str(result.value["hits"])) >= 1


def test_outside_the_scan_finds_a_secret_in_the_environment() -> None:
    done = subprocess.run(
        [sys.executable, "-c", scan() + "\nprint(result['hits'])"],
        env={"BROKER_SECRET": CANARY},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert int(done.stdout) >= 1


@pytest.mark.anyio
async def test_the_environment_holds_constants_only(sandbox: LocalSandbox, desk: LocalSandbox) -> None:
    del sandbox
    source = """
import ctypes, os
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
native, at = [], 0
while environ[at]: native.append(environ[at].decode()); at += 1
result = [dict(os.environ), native]
"""
    result = await run(desk, source)
    assert isinstance(result.value, list), result
    assert CANARY not in str(result.value)
    assert not set(NAMES) & set(str(result.value).replace("'", " ").replace("=", " ").split())
    assert "HOME" in str(result.value)


@pytest.mark.anyio
async def test_no_descriptor_but_its_own_reaches_the_guest(sandbox: LocalSandbox, desk: LocalSandbox) -> None:
    del sandbox
    source = """
import os
result = []
for fd in range(4096):
    try: os.fstat(fd)
    except OSError: continue
    result.append(fd)
"""
    assert (await run(desk, source)).value == [0, 1, 2, 3]
