"""Attacks through the interpreter itself: broken memory, hooks, exits, hostile objects."""

# ruff: noqa: E501 - a table reads best with one attack a line

from tests.sandbox.attacks.attack import Attack

from neural_trader_sandbox.port import Limits

_NO_HOST = "none: the harness of the control is no host"
ATTACKS = [
    Attack("read address 1", "import ctypes\nctypes.string_at(1)", "SIGSEGV", "signal SIGSEGV"),
    Attack("jump to nowhere", "import ctypes\nctypes.CFUNCTYPE(ctypes.c_int)(64)()", "SIGSEGV", "signal SIGSEGV"),
    Attack("an unknown instruction", "import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(b'\\x0f\\x0b' if '@machine@' == 'x86_64' else bytes(4))\n"
        "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()", "SIGILL", "signal SIGILL"),
    Attack("break None", "import ctypes, gc\nctypes.memset(id(None), 0xff, 16)\ngc.collect()\nx = [None] * 9\ndel x\ngc.collect()\nctypes.memset(id(None), 0, 4096)",
        "SIGSEGV|SIGABRT|without a result|FrameError", "signal .*|exit code .*"),
    Attack("overwrite the heap", "import ctypes\nb = ctypes.create_string_buffer(16)\nctypes.memset(b, 0xff, 1 << 16)\nx = [bytearray(64) for _ in range(9999)]\nraise SystemExit(9)",
        "SIG|without a result|SystemExit|FrameError", "signal .*|exit code .*|SystemExit.*|.*Error.*"),
    Attack("abort", "import os\nos.abort()", "SIG", "signal SIGABRT"),
    Attack("unwind the stack with exit codes", "raise SystemExit(3)", "SystemExit", "SystemExit.*"),
    Attack("an exception that cannot be printed", "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E", "cannot be read", "exit code.*|SystemExit.*"),
    Attack("an exception with a forged name", "class E(Exception): pass\nE.__name__ = 'x' * 5000\nraise E('\\x1b[2J' * 999)", "^x{100}: $", "x{100}.*"),
    Attack("an exception that claims to be the host's", "class HostError(Exception): pass\nHostError.__module__ = 'neural_trader_governance.errors'\nraise HostError('sandbox_unavailable')",
        "HostError: sandbox_unavailable", "HostError.*"),
    Attack("a result that is not JSON", "result = {1: {2, 3}}", "FrameError|TypeError", "won.*"),
    Attack("a result that refers to itself", "result = []\nresult.append(result)", "FrameError", "won.*"),
    Attack("a result with a hostile key", "class K(str):\n    def __str__(self): raise KeyboardInterrupt\nresult = {K('x'): float('inf')}", "FrameError|KeyboardInterrupt", "won.*"),
    Attack("columns that are not numbers", "columns = {'x': ['a']}\nresult = [1]", "ValueError", "won.*"),
    Attack("columns with two dimensions", "import numpy\ncolumns = {'x': numpy.ones((2, 2))}\nresult = [1]", "TypeError", "won.*"),
    Attack("columns whose array runs code", "class A:\n    def __array__(self, *a, **k): raise SystemExit('ran')\ncolumns = {'x': A()}\nresult = [1]", "SystemExit", "won.*"),
    Attack("replace the framing", "import sys\nf = sys.modules['neural_trader_sandbox.frames']\nf.pack_json = lambda *a: b'\\xff' * 5000\nresult = [1]", "FrameError", _NO_HOST),
    Attack("replace the interpreter's modules", "import sys\nfor n in list(sys.modules): sys.modules[n] = None\nimport os", "ModuleNotFoundError|ImportError|without a result", "ModuleNotFoundError.*|exit code.*"),
    Attack("spin when it is traced", "import sys\ndef t(*a):\n    while True: pass\nsys.settrace(t)\nsys.setprofile(t)  # endless", "wall_time_s",
        "runs on", Limits(wall_time_s=0.3)),
    Attack("spin when garbage is collected", "import gc\ndef spin(*a):\n    while True: pass\ngc.callbacks.append(spin)\ngc.collect()  # endless", "wall_time_s",
        "runs on", Limits(wall_time_s=0.3)),
    Attack("spin when it is deleted", "class D:\n    def __del__(self):\n        while True: pass\nd = D()\ndel d  # endless", "wall_time_s", "runs on", Limits(wall_time_s=0.3)),
    Attack("run code at the end", "import atexit, os\natexit.register(lambda: os.write(1, b'late'))\nimport threading\nthreading._register_atexit(print)\nraise SystemExit(4)",
        "SystemExit", "SystemExit.*"),
    Attack("answer and go on in a thread", "import os, threading, time\ndef late():\n    while True: pass\nthreading.Thread(target=late).start()\nos._exit(5)  # endless",
        "exit code 5", "exit code 5.*"),
    Attack("an endless source of output when printed", "class P:\n    def __str__(self): print(self); return 'x'\nprint(P())", "RecursionError", "RecursionError.*"),
    Attack("unpickle a command", "import os, pickle\nclass P:\n    def __reduce__(self): return (os.system, ('true',))\n"
        "r = pickle.loads(pickle.dumps(P()))\nif r: raise OSError(1, 'denied')\nresult = ['ran']", "EPERM", "won.*"),
    Attack("load a pickled array", "import numpy, io, os\nclass P:\n    def __reduce__(self): return (os.listdir, ('/',))\nb = io.BytesIO()\n"
        "numpy.save(b, numpy.array([P()], dtype=object), allow_pickle=True)\nb.seek(0)\nresult = str(numpy.load(b, allow_pickle=True))", "EACCES", "won.*"),
    Attack("read a file by polars", "import polars\nresult = polars.read_csv('/etc/passwd', has_header=False).height", "ENOENT|FileNotFoundError|EACCES|PermissionError", "won.*"),
    Attack("write a file by numpy", "import numpy\nnumpy.save('/usr/lib/canary', numpy.ones(1))\nimport os\nos.unlink('/usr/lib/canary.npy')\nresult = [1]", "EROFS|EACCES", "wins as root"),
    Attack("open a database", "import sqlite3\nresult = sqlite3.connect('file:/etc/passwd?mode=ro', uri=True).execute('select 1').fetchall()", "OperationalError", "won.*|DatabaseError.*"),
]  # fmt: skip
