"""Attacks on memory, disk, processor, and by floods of output."""

# ruff: noqa: E501 - a table reads best with one attack a line

from tests.sandbox.attacks.attack import LIBC, RUNS_ON, Attack

from neural_trader_sandbox.port import Limits

_SHORT = Limits(wall_time_s=0.3)
_GIB = Limits(wall_time_s=20, memory_bytes=1 << 30)
MEMORY = [
    Attack("many blocks", "x = []\nfor _ in range(96): x.append(bytes(1 << 24))\nresult = [1]", "MemoryError", limits=_GIB),
    Attack("one huge block", "import numpy\nx = numpy.empty(3 << 27)\nresult = [1]", "MemoryError|ArrayMemoryError"),
    Attack("map 3 GiB", "import mmap\nm = mmap.mmap(-1, 3 << 30)\nresult = [1]", "ENOMEM"),
    Attack("map 3 GiB of a device", "import mmap, os\nm = mmap.mmap(os.open('/dev/zero', os.O_RDONLY), 3 << 30, mmap.MAP_PRIVATE, mmap.PROT_READ)\nresult = [1]", "ENOMEM|ENODEV"),
    Attack("locked pages", LIBC + "import os\np = libc.mmap(None, ctypes.c_size_t(1 << 20), 3, 0x2022, -1, ctypes.c_long(0))\n"
        "if p == -1: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\nresult = [1]", "EAGAIN|EPERM"),
    Attack("huge pages", "import mmap\nm = mmap.mmap(-1, 1 << 30, flags=0x40022)\nm[0] = 1\nresult = [1]", "ENOMEM|EPERM",
        "none: most machines keep no huge pages"),
    Attack("grow the heap", LIBC + "libc.malloc.restype = ctypes.c_void_p\nresult = libc.malloc(ctypes.c_size_t(3 << 30)) or 0\nif not result: raise MemoryError", "MemoryError"),
    Attack("a billion laughs", "s = 'x'\nfor _ in range(33): s += s\nresult = [1]", "MemoryError", "none: it would use 8 GiB", _GIB),
    Attack("a power tower", "result = 9 ** 9 ** 9  # endless", "wall_time_s|MemoryError", RUNS_ON, _SHORT),
    Attack("recurse", "import sys\nsys.setrecursionlimit(1 << 30)\ndef f(): f()\nf()  # endless", "SIGSEGV|MemoryError|wall_time_s", RUNS_ON + "|signal SIGSEGV", _SHORT),
    Attack("recurse in native code", "import ctypes, sys\nsys.setrecursionlimit(1 << 30)\nx = None\nfor _ in range(1 << 18): x = [x]\nresult = repr(x)",
        "SIGSEGV|MemoryError", "signal SIGSEGV|MemoryError.*|won.*"),
    Attack("fill pipes", "import fcntl, os\nfor _ in range(40):\n    r, w = os.pipe(); fcntl.fcntl(w, 1031, 1 << 20)\nresult = [1]", "EPERM|EMFILE"),
    Attack("use up descriptors", "import os\nx = [os.open('/dev/null', 0) for _ in range(200)]\nresult = [1]", "EMFILE"),
]  # fmt: skip
_PLACE = "import os, tempfile\np = tempfile.gettempdir()\n"
DISK = [
    Attack("one huge file", _PLACE + "f = open(p + '/x', 'wb')\nfor _ in range(40): f.write(bytes(1 << 20))\nresult = [1]", "EFBIG"),
    Attack("a hole of a terabyte", _PLACE + "fd = os.open(p + '/x', os.O_RDWR | os.O_CREAT)\nos.ftruncate(fd, 1 << 40)\nresult = [1]", "EFBIG"),
    Attack("reserve space", _PLACE + "fd = os.open(p + '/x', os.O_RDWR | os.O_CREAT)\nos.posix_fallocate(fd, 0, 1 << 27)\nresult = [1]", "EFBIG|ENOSPC"),
    Attack("fill the disk", _PLACE + "for i in range(12):\n    with open(f'{p}/{i}', 'wb') as f: f.write(bytes(1 << 23))\nresult = [1]", "ENOSPC"),
    Attack("use up the inodes", _PLACE + "for i in range(400): open(f'{p}/{i}', 'w').close()\nresult = [1]", "ENOSPC"),
    Attack("use up the inodes with folders", _PLACE + "for i in range(400): p += '/d'; os.mkdir(p)\nresult = [1]", "ENOSPC"),
    Attack("nameless files", _PLACE + "x = []\nfor i in range(12):\n    fd = os.open(p, os.O_TMPFILE | os.O_RDWR); os.write(fd, bytes(1 << 23)); x.append(fd)\nresult = [1]",
        "ENOSPC|EACCES|EPERM", "won|EOPNOTSUPP"),
    Attack("write through a map beyond the limit", _PLACE + "import mmap\nfd = os.open(p + '/x', os.O_RDWR | os.O_CREAT)\n"
        "for i in range(6):\n    fd = os.open(f'{p}/m{i}', os.O_RDWR | os.O_CREAT); os.ftruncate(fd, 16 << 20)\n"
        "    m = mmap.mmap(fd, 16 << 20)\n    for at in range(0, 16 << 20, 4096): m[at] = 1\nresult = [1]", "SIGBUS"),
]  # fmt: skip
PROCESSOR = [
    Attack("spin", "while True: pass  # endless", "wall_time_s", RUNS_ON, _SHORT),
    Attack("spin with signals blocked", "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass  # endless", "wall_time_s", RUNS_ON, _SHORT),
    Attack("spin with signals ignored", "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass  # endless",
        "wall_time_s", RUNS_ON, _SHORT),
    Attack("hold the interpreter in a regular expression", "import re\nre.match(r'(a+)+$', 'a' * 64 + 'b')  # endless", "wall_time_s", RUNS_ON, _SHORT),
    Attack("hold the interpreter in a sum", "sum(range(10 ** 15))  # endless", "wall_time_s", RUNS_ON, _SHORT),
    Attack("spin in many threads", "import threading\nfor _ in range(8): threading.Thread(target=lambda: [0 for _ in iter(int, 1)], daemon=True).start()\nwhile True: pass  # endless",
        "wall_time_s", RUNS_ON, _SHORT),
    Attack("spin in native threads", "import hashlib, threading\nfor _ in range(6): threading.Thread(target=lambda: hashlib.pbkdf2_hmac('sha256', b'', b'', 1 << 31), daemon=True).start()\n"
        "while True: pass  # endless", "cpu_time_s", RUNS_ON, Limits(wall_time_s=20, cpu_time_s=1)),
    Attack("use up the processor", "while True: pass  # endless", "cpu_time_s", RUNS_ON, Limits(cpu_time_s=1)),
    Attack("use it up with its signal ignored", "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass  # endless", "cpu_time_s", RUNS_ON, Limits(cpu_time_s=1)),
    Attack("sleep for ever", "import time\ntime.sleep(1e6)  # endless", "wall_time_s", RUNS_ON, _SHORT),
    Attack("wait for a lock for ever", "import threading\nl = threading.Lock(); l.acquire(); l.acquire()  # endless", "wall_time_s", RUNS_ON, _SHORT),
    Attack("catch every exception and go on", "while True:\n    try:\n        while True: pass\n    except BaseException: pass  # endless", "wall_time_s", RUNS_ON, _SHORT),
]  # fmt: skip
_WIRE = "import os, socket\ntry: os.fstat(3); fd = 3\nexcept OSError: fd = socket.socketpair()[0].detach()\n"
FLOODS = [
    Attack("end without a word", "import os\nos._exit(0)", "without a result", "exit code 0.*"),
    Attack("flood the data socket", _WIRE + "while True: os.write(3, bytes(1 << 16))  # endless", "FrameError", "none: there is no host behind it"),
    Attack("flood it from a device", _WIRE + "z = os.open('/dev/zero', os.O_RDONLY)\nwhile True: os.sendfile(3, z, None, 1 << 20)  # endless", "FrameError|EINVAL",
        "none: there is no host behind it"),
    Attack("close the data socket and go on", "import os, socket\nos.close(3)\nwhile True: pass  # endless", "wall_time_s|let go", "none: there is no host behind it",
        Limits(wall_time_s=0.3)),
    Attack("shut the data socket and go on", _WIRE + "socket.socket(fileno=3).shutdown(2)\nwhile True: pass  # endless", "wall_time_s|let go",
        "none: there is no host behind it", Limits(wall_time_s=0.3)),
    Attack("close every descriptor", "import os\nos.closerange(0, 64)\nwhile True: pass  # endless", "wall_time_s|let go", RUNS_ON, Limits(wall_time_s=0.3)),
]  # fmt: skip
