"""Real attacks from inside: each must be stopped by the layer that is meant to stop it, and the next
honest run must succeed. An attack's body sets `result` to what it got; an exception is its defeat.
"""

import ctypes
import os
import platform
import socket
import textwrap
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from neural_trader_sandbox.port import Limits, SandboxResult

RunScript = Callable[..., Awaitable[SandboxResult]]
HONEST = "import numpy, polars\nresult = int(numpy.arange(4).sum()) + polars.DataFrame({'a': [1]}).height"
LIBC = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
CALL = (
    LIBC
    + "result = libc.syscall({number}, {arguments})\n"
    + "if result < 0: raise OSError(ctypes.get_errno(), 'denied')"
)

X86 = {
    "ptrace": 101, "mount": 165, "unshare": 272, "setns": 308, "keyctl": 250, "bpf": 321, "pivot_root": 155,
    "io_uring_setup": 425, "userfaultfd": 323, "perf_event_open": 298, "process_vm_readv": 310, "chroot": 161,
    "open_by_handle_at": 304, "init_module": 175, "memfd_create": 319, "clone3": 435, "pidfd_open": 434,
    "quotactl": 179, "syslog": 103, "personality": 135, "shmget": 29, "inotify_init1": 294, "vmsplice": 278,
}  # fmt: skip
ARM = {
    "ptrace": 117, "mount": 40, "unshare": 97, "setns": 268, "keyctl": 219, "bpf": 280, "pivot_root": 41,
    "io_uring_setup": 425, "userfaultfd": 282, "perf_event_open": 241, "process_vm_readv": 270, "chroot": 51,
    "open_by_handle_at": 265, "init_module": 105, "memfd_create": 279, "clone3": 435, "pidfd_open": 434,
    "quotactl": 60, "syslog": 116, "personality": 92, "shmget": 194, "inotify_init1": 26, "vmsplice": 75,
}  # fmt: skip
NUMBERS = ARM if platform.machine() == "aarch64" else X86


@dataclass(frozen=True)
class Attack:
    """`raises`: the guest's exception; `status`: how the run must end; `says`: text of the reason."""

    name: str
    source: str
    status: str = "error"
    raises: tuple[str, ...] = ()
    says: str = ""
    limits: Limits = field(default_factory=lambda: Limits(wall_time_s=20))


def denied(name: str, source: str, *raises: str, limits: Limits | None = None) -> Attack:
    kinds = raises or ("PermissionError", "FileNotFoundError", "OSError")
    return Attack(name, source, raises=kinds, limits=limits or Limits(wall_time_s=20))


def seccomp_kills(call: str, arguments: str = "0, 0, 0, 0, 0") -> Attack:
    source = CALL.format(number=NUMBERS[call], arguments=arguments)
    return Attack(f"system call {call}", source, status="killed", says="seccomp")


def seccomp_denies(call: str, arguments: str = "0, 0, 0, 0, 0") -> Attack:
    return denied(f"system call {call}", CALL.format(number=NUMBERS[call], arguments=arguments))


FILES = [
    denied("read /etc/passwd", "result = open('/etc/passwd').read()"),
    denied("read /etc/shadow", "result = open('/etc/shadow').read()"),
    denied("list /root", "import os\nresult = os.listdir('/root')"),
    denied("list /home", "import os\nresult = os.listdir('/home')"),
    denied("list the root folder", "import os\nresult = os.listdir('/')"),
    denied("read /proc/self/environ", "result = open('/proc/self/environ').read()"),
    denied("read /proc/1/maps", "result = open('/proc/1/maps').read()"),
    denied("list /sys", "import os\nresult = os.listdir('/sys')"),
    denied("list /run", "import os\nresult = os.listdir('/run')"),
    denied("open the host's disk", "result = len(open('/dev/vda', 'rb').read(512))"),
    denied(
        "make a device node",
        "import os, stat\nos.mknod('/tmp/disk', 0o600 | stat.S_IFBLK, os.makedev(254, 0))",
    ),
    denied("make a fifo", "import os\nos.mkfifo('/tmp/fifo')"),
    denied(
        "symlink out of /tmp",
        "import os\nos.symlink('/etc/passwd', '/tmp/link')\nresult = open('/tmp/link').read()",
    ),
    denied("hard link out of /tmp", "import os\nos.link('/usr/lib', '/tmp/link')"),
    denied("climb with dots", "result = open('/tmp/../../../../../etc/passwd').read()"),
    denied("write into the standard library", "import os\nopen(os.__file__, 'a').write('#')"),
    denied("write beside numpy", "import numpy\nopen(numpy.__path__[0] + '/x.py', 'w')"),
    denied("create in the root folder", "open('/x', 'w')"),
    denied(
        "make /tmp executable code",
        "import ctypes\nopen('/tmp/x.so', 'wb').write(b'x')\nctypes.CDLL('/tmp/x.so')",
    ),
    denied("read shared memory", "import os\nresult = os.listdir('/dev/shm')"),
    denied(
        "shared memory of multiprocessing",
        "from multiprocessing import shared_memory\nshared_memory.SharedMemory('x', True, 64)",
    ),
    denied("change a mode outside", "import os\nos.chmod('/usr/lib', 0o777)"),
]

NETWORK = [
    denied("tcp to loopback", "import socket\nsocket.create_connection(('127.0.0.1', 80), 1)"),
    denied("tcp to the internet", "import socket\nsocket.create_connection(('192.0.2.1', 443), 1)"),
    denied(
        "udp",
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
    ),
    denied("raw packets", "import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
    denied("netlink", "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)"),
    denied("vsock", "import socket\nsocket.socket(40, socket.SOCK_STREAM)"),
    denied("unix socket", "import socket\nsocket.socket(socket.AF_UNIX).connect('/var/run/docker.sock')"),
    denied("datagram socket pair", "import socket\nsocket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)"),
    denied(
        "resolve a name",
        "import socket\nresult = socket.getaddrinfo('example.com', 443)",
        "gaierror",
        "OSError",
    ),
]

PROCESSES = [
    denied("fork", "import os\nos.fork()"),
    denied("fork bomb", "import os\nwhile True: os.fork()"),
    denied("spawn a shell", "import subprocess\nsubprocess.run(['/bin/sh', '-c', 'id'])"),
    denied("os.system", "import os\nr = os.system('id')\nif r: raise OSError(r)"),
    Attack("exec", "import os\nos.execv('/usr/lib/x', ['x'])", status="killed", says="seccomp"),
    denied("signal everybody", "import os\nos.kill(-1, 9)"),
    denied("signal the nanny", "import os\nos.kill(0, 9)"),
    denied(
        "queue a signal", LIBC + "if libc.sigqueue(2, 9, 0) < 0: raise OSError(ctypes.get_errno(), 'denied')"
    ),
    denied(
        "thread bomb",
        "import threading, time\nfor _ in range(500): "
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "RuntimeError",
    ),
    denied("become root", "import os\nos.setuid(0)"),
    denied("raise priority", "import os\nos.nice(-5)"),
    denied(
        "raise a limit",
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (9999, 9999))",
        "ValueError",
    ),
    denied(
        "become debuggable",
        LIBC + "if libc.prctl(4, 1, 0, 0, 0) < 0: raise OSError(ctypes.get_errno(), 'denied')",
    ),
    denied("type into the terminal", "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSTI, b'x')"),
    denied("open the terminal", "open('/dev/tty', 'w')"),
]

KERNEL = [
    *(
        seccomp_kills(call)
        for call in (
            "ptrace", "mount", "unshare", "setns", "keyctl", "bpf", "pivot_root", "io_uring_setup",
            "userfaultfd", "perf_event_open", "process_vm_readv", "chroot", "open_by_handle_at",
            "init_module",
        )
    ),
    *(
        seccomp_denies(call)
        for call in (
            "memfd_create", "clone3", "pidfd_open", "quotactl", "syslog", "personality", "shmget",
            "inotify_init1", "vmsplice",
        )
    ),
]  # fmt: skip

RESOURCES = [
    Attack("spin", "while True: pass", status="timeout", limits=Limits(wall_time_s=0.4)),
    Attack(
        "spin with signals blocked",
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass",
        status="timeout",
        limits=Limits(wall_time_s=0.4),
    ),
    Attack(
        "hold the interpreter in a regular expression",
        "import re\nre.match(r'(a+)+$', 'a' * 64 + 'b')",
        status="timeout",
        limits=Limits(wall_time_s=0.4),
    ),
    Attack(
        "use up the processor",
        "while True: pass",
        status="killed",
        says="cpu_time_s",
        limits=Limits(cpu_time_s=1),
    ),
    Attack(
        "sleep for ever", "import time\ntime.sleep(1e6)", status="timeout", limits=Limits(wall_time_s=0.3)
    ),
    denied(
        "memory bomb",
        "x = []\nwhile True: x.append(bytearray(1 << 24))",
        "MemoryError",
        limits=Limits(memory_bytes=1 << 30),
    ),
    denied("one huge block", "import numpy\nx = numpy.ones(1 << 32)", "MemoryError", "_ArrayMemoryError"),
    denied("one huge file", "f = open('/tmp/x', 'wb')\nwhile True: f.write(bytes(1 << 20))"),
    denied(
        "fill the disk",
        "for i in range(1000):\n    with open(f'/tmp/{i}', 'wb') as f: f.write(bytes(1 << 23))",
    ),
    denied("use up the inodes", "for i in range(100000): open(f'/tmp/{i}', 'w').close()"),
    denied("use up descriptors", "import os\nx = [os.open('/dev/null', 0) for _ in range(10000)]"),
    Attack("crash natively", "import ctypes\nctypes.string_at(1)", status="killed", says="SIGSEGV"),
    Attack("abort", "import os\nos.abort()", status="killed", says="killed by SIG"),
    Attack("end without a word", "import os\nos._exit(0)", says="without a result"),
    Attack("recurse", "def f(): f()\nf()", raises=("RecursionError",)),
]

ATTACKS = [*FILES, *NETWORK, *PROCESSES, *KERNEL, *RESOURCES]


@pytest.mark.anyio
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_the_attack_is_stopped_and_the_next_honest_run_succeeds(
    attack: Attack, run_script: RunScript
) -> None:
    result = await run_script(attack.source, limits=attack.limits)
    assert result.status == attack.status, result
    assert result.value is None
    assert result.error is not None
    assert attack.says in result.error.message
    if attack.raises:
        assert result.error.type in attack.raises, result.error
    honest = await run_script(HONEST)
    assert (honest.status, honest.value) == ("ok", 7)


@pytest.mark.anyio
async def test_a_listening_server_of_the_host_never_sees_a_connection(run_script: RunScript) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        port = listener.getsockname()[1]
        result = await run_script(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)")
        assert result.error is not None
        assert result.error.type == "PermissionError"
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.anyio
async def test_a_readable_secret_file_of_the_host_is_not_there(run_script: RunScript, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    for folder in (tmp_path, *list(tmp_path.parents)[:-1]):
        assert folder != Path("/")
    result = await run_script(f"result = open({str(secret)!r}).read()")
    assert result.error is not None
    assert result.error.type == "FileNotFoundError"


@pytest.mark.anyio
async def test_an_inheritable_descriptor_of_the_host_does_not_reach_the_guest(
    run_script: RunScript, tmp_path: Path
) -> None:
    secret = os.open(tmp_path / "secret", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(secret, True)
    try:
        source = """
            import os
            result = []
            for fd in range(4096):
                try: os.fstat(fd)
                except OSError: continue
                result.append(fd)
        """
        result = await run_script(textwrap.dedent(source))
    finally:
        os.close(secret)
    assert result.value == [0, 1, 2, 3]


@pytest.mark.anyio
async def test_no_variable_of_the_host_reaches_the_guest(
    run_script: RunScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_SECRET", "s3cret")
    result = await run_script("import os\nresult = dict(os.environ)")
    assert isinstance(result.value, dict)
    assert "BROKER_SECRET" not in result.value
    assert "s3cret" not in str(result.value)
    assert result.value["HOME"] == "/" + "tmp"


@pytest.mark.anyio
async def test_no_secret_of_the_host_lies_in_the_guests_memory(run_script: RunScript) -> None:
    """The zygote is a fresh program, not a copy of the server: its whole environment block is constant."""
    source = (
        LIBC + "import os\nenviron = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, 'environ')\nresult = []\n"
    )
    source += "i = 0\nwhile environ[i]: result.append(environ[i].decode()); i += 1"
    result = await run_script(source)
    assert isinstance(result.value, list)
    assert all(str(entry).partition("=")[0].isupper() or str(entry).startswith("_") for entry in result.value)
    assert not any("KEY" in str(entry) or "SECRET" in str(entry) for entry in result.value)


@pytest.mark.anyio
async def test_nothing_persists_between_runs(run_script: RunScript) -> None:
    first = await run_script(
        "import builtins, os, sys, numpy\nopen('/tmp/kept', 'w').write('x')\nos.environ['KEPT'] = 'x'\n"
        "builtins.kept = 1\nnumpy.kept = 1\nsys.modules['kept'] = sys\nresult = 1"
    )
    assert first.status == "ok"
    second = await run_script(
        "import builtins, os, sys, numpy\nresult = [os.path.exists('/tmp/kept'), 'KEPT' in os.environ, "
        "hasattr(builtins, 'kept'), hasattr(numpy, 'kept'), 'kept' in sys.modules]"
    )
    assert second.value == [False, False, False, False, False]


@pytest.mark.anyio
async def test_guests_of_one_time_do_not_see_each_other(run_script: RunScript) -> None:
    result = await run_script(
        "import os\nresult = [os.getpid(), os.getppid(), os.getuid(), os.uname().nodename]"
    )
    assert result.value == [1, 0, 1000, "sandbox"]


@pytest.mark.anyio
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the 32-bit and x32 doors exist on x86-64 only")
async def test_the_x32_and_the_32_bit_doors_kill(run_script: RunScript) -> None:
    x32 = await run_script(LIBC + "libc.syscall(ctypes.c_long(0x40000000 + 39))")
    assert (x32.status, x32.error is not None and "seccomp" in x32.error.message) == ("killed", True)
    # mov eax, 20 (getpid in the i386 table); int 0x80; ret
    source = (
        "import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('b814000000cd80c3'))\n"
        "a = ctypes.addressof(ctypes.c_char.from_buffer(m))\nresult = ctypes.CFUNCTYPE(ctypes.c_int)(a)()"
    )
    i386 = await run_script(source)
    assert i386.status == "killed"


def test_the_host_can_be_read_by_this_test_so_the_guests_failure_means_something() -> None:
    assert Path("/etc/passwd").read_text()
    assert ctypes.CDLL(None).getpid() == os.getpid()
