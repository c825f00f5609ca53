"""What one run leaves, the next does not find; the same two in one process without a sandbox do find it."""

# ruff: noqa: E501 - a table reads best with one attack a line

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from tests.sandbox.attacks.attack import outside
from tests.sandbox.attacks.conftest import Steady
from tests.sandbox.attacks.controls import Controls

from neural_trader_sandbox.port import SandboxResult

RunScript = Callable[..., Awaitable[SandboxResult]]


@dataclass(frozen=True)
class Trace:
    """`leave` runs in a first guest, `find` in a second: it sets `result` to what it found."""

    leave: str
    find: str
    is_refused: bool = False


TRACES = {
    "a file in /tmp": Trace("import os, tempfile\nopen(tempfile.gettempdir() + '/kept', 'w').write('x')",
        "import os, tempfile\nresult = [n for n in os.listdir(tempfile.gettempdir()) if n == 'kept']"),
    "a variable": Trace("import os\nos.environ['KEPT'] = 'x'", "import os\nresult = os.environ.get('KEPT')"),
    "a native variable": Trace("import ctypes\nctypes.CDLL(None).setenv(b'KEPT', b'x', 1)",
        "import ctypes\ng = ctypes.CDLL(None).getenv; g.restype = ctypes.c_char_p\nresult = str(g(b'KEPT') or '')"),
    "a builtin": Trace("import builtins\nbuiltins.kept = 1", "import builtins\nresult = getattr(builtins, 'kept', 0)"),
    "a module": Trace("import sys\nsys.modules['kept'] = sys", "import sys\nresult = 'kept' in sys.modules"),
    "a changed numpy": Trace("import numpy\nnumpy.mean = lambda *a, **k: 42.0", "import numpy\nresult = float(numpy.mean([1.0])) == 42.0"),
    "a changed polars": Trace("import polars\npolars.Series.sum = lambda self: 42", "import polars\nresult = polars.Series([1]).sum() == 42"),
    "a changed framing": Trace("import sys, json\njson.kept = 1", "import json\nresult = getattr(json, 'kept', 0)"),
    "native code in numpy": Trace("import ctypes, numpy\na = numpy.array(7)\nnumpy.kept = ctypes.c_long(7)", "import numpy\nresult = hasattr(numpy, 'kept')"),
    "a changed constant": Trace("import ctypes\nimport sys\nctypes.c_long.from_address(id(257 - 1) + 24).value = 255", "result = int('256') == int('255')"),
    "an import hook": Trace("import sys\nsys.meta_path.insert(0, type('Kept', (), {'find_spec': classmethod(lambda *a: None)}))",
        "import sys\nresult = any(getattr(f, '__name__', '') == 'Kept' for f in sys.meta_path)"),
    "a path of modules": Trace("import sys\nsys.path.insert(0, '/kept')", "import sys\nresult = '/kept' in sys.path"),
    "a codec": Trace("import codecs\ncodecs.register(lambda n: codecs.lookup('utf-8') if n == 'kept' else None)",
        "import codecs\ntry: result = bool(codecs.lookup('kept'))\nexcept LookupError: result = False"),
    "a trace function": Trace("import threading\nthreading.setprofile(lambda *a: None)", "import threading\nresult = threading._profile_hook is not None"),
    "a thread": Trace("import threading, time\nthreading.Thread(target=time.sleep, args=(3,), name='kept', daemon=True).start()",
        "import threading\nresult = [t.name for t in threading.enumerate() if t.name == 'kept']"),
    "a descriptor": Trace("import os\nos.dup2(os.open('/dev/zero', os.O_RDONLY), 33)",
        "import os\ntry: result = [os.fstat(33).st_size + 1]\nexcept OSError: result = []"),
    "a working folder": Trace("import os, tempfile\nos.mkdir(tempfile.gettempdir() + '/k'); os.chdir(tempfile.gettempdir() + '/k')",
        "import os\nresult = os.getcwd().endswith('/k')"),
    "a mask": Trace("import os\nos.umask(0o123)", "import os\nresult = os.umask(0) == 0o123"),
    "a signal's handler": Trace("import signal\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)", "import signal\nresult = signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN"),
    "a seed": Trace("import random\nrandom.kept = random.seed(7) or random.random()", "import random\nresult = getattr(random, 'kept', 0)"),
    "a locale": Trace("import decimal\ndecimal.setcontext(decimal.Context(prec=3))", "import decimal\nresult = decimal.getcontext().prec == 3"),
    "a compiled kernel": Trace("import os\nd = os.environ.get('NUMBA_CACHE_DIR') or __import__('tempfile').gettempdir() + '/cache'\n"
        "os.makedirs(d, exist_ok=True)\nopen(d + '/kept.nbi', 'wb').write(b'x')",
        "import os\nd = os.environ.get('NUMBA_CACHE_DIR') or __import__('tempfile').gettempdir() + '/cache'\nresult = os.path.exists(d + '/kept.nbi')"),
    "shared memory": Trace("from multiprocessing import shared_memory\nm = shared_memory.SharedMemory('kept-run', True, 64)",
        "from multiprocessing import shared_memory\nm = shared_memory.SharedMemory('kept-run')\nresult = [m.size]\nm.unlink()", is_refused=True),
    "System V memory": Trace("import ctypes\nl = ctypes.CDLL(None, use_errno=True)\nif l.shmget(0x4b455054, 4096, 0o1600) < 0: raise OSError(ctypes.get_errno(), 'denied')",
        "import ctypes\nl = ctypes.CDLL(None, use_errno=True)\ni = l.shmget(0x4b455054, 4096, 0o600)\nif i < 0: raise OSError(ctypes.get_errno(), 'denied')\n"
        "result = [i]\nl.shmctl(i, 0, 0)", is_refused=True),
    "an abstract name": Trace("import socket\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0kept-run')",
        "import socket\nt = socket.socket(socket.AF_UNIX)\ntry: t.bind('\\0kept-run')\nexcept OSError as e:\n    if e.errno != 98: raise\n    result = [1]", is_refused=True),
}  # fmt: skip


@pytest.mark.anyio
@pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES.keys())
async def test_the_next_run_does_not_find_it(trace: Trace, run_script: RunScript, steady: Steady) -> None:
    for _ in range(3):  # both warm children and a fresh one
        left = await run_script(trace.leave)
        found = await run_script(trace.find)
        if trace.is_refused:
            assert left.status == found.status == "error"
            assert left.error is not None
            assert left.error.type in {"PermissionError", "FileNotFoundError"}
        else:
            assert left.status == "ok", left
            assert found.status == "ok", found
        assert not found.value
    steady.check()


@pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES.keys())
def test_without_a_sandbox_it_is_found(trace: Trace, controls: Controls) -> None:
    assert outside(controls, f"{trace.leave}\n{trace.find}").startswith("won")


@pytest.mark.anyio
async def test_guests_are_alone_in_their_namespaces(run_script: RunScript) -> None:
    result = await run_script(
        "import os\nresult = [os.getpid(), os.getppid(), os.getuid(), os.uname().nodename]"
    )
    assert result.value == [1, 0, 1000, "sandbox"]
