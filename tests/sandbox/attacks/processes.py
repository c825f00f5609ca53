"""Attacks on other processes: looking, tracing, signals, programs, copies of oneself, privileges."""

# ruff: noqa: E501 - a table reads best with one attack a line

from tests.sandbox.attacks.attack import CHECKED, DIFFERS, DIFFERS_AS_ROOT, WINS_AS_ROOT, Attack, call

from neural_trader_sandbox.port import Limits

_NUMBERS: dict[str, tuple[int | None, int]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "execveat": (322, 281), "memfd_create": (319, 279), "clone": (56, 220), "clone3": (435, 435),
    "process_madvise": (440, 440), "setpgid": (109, 154), "get_mempolicy": (239, 236), "capset": (126, 91),
    "process_mrelease": (448, 448), "waitid": (247, 95), "sched_setscheduler": (144, 119),
}  # fmt: skip
PROC = [
    Attack("read another process's environment", "result = open('/proc/@victim@/environ').read()", "ENOENT"),
    Attack("read the first process's environment", "result = open('/proc/1/environ').read() + 'x'", "ENOENT", DIFFERS),
    Attack("read one's own memory map", "result = open('/proc/self/maps').read()", "ENOENT"),
    Attack("write one's own memory", "result = [open('/proc/self/mem', 'r+b')]", "ENOENT"),
    Attack("list processes", "import os\nresult = [p for p in os.listdir('/proc') if p.isdigit()]", "ENOENT|EACCES"),
    Attack("see a parent", "import os\nresult = os.getppid()", "nothing"),
    Attack("be the host's user", "import os\nresult = os.getuid() == @uid@", "nothing"),
    Attack("trace oneself", call("ptrace", _NUMBERS, 0, 0, 0, 0), "seccomp"),
    Attack("attach to a process", call("ptrace", _NUMBERS, 16, "@victim@", 0, 0).replace("'@victim@'", "@victim@"), "seccomp", DIFFERS),
    Attack("read another process's memory", call("process_vm_readv", _NUMBERS, "@victim@", 0, 0, 0, 0, 0).replace("'@victim@'", "@victim@"), "seccomp"),
    Attack("write another process's memory", call("process_vm_writev", _NUMBERS, "@victim@", 0, 0, 0, 0, 0).replace("'@victim@'", "@victim@"), "seccomp"),
    Attack("compare two processes", call("kcmp", _NUMBERS, 1, 1, 1, 0, 0), "EPERM", "won|ENOSYS|EPERM"),
    Attack("a handle on a process", call("pidfd_open", _NUMBERS, "@victim@", 0).replace("'@victim@'", "@victim@"), "EPERM"),
    Attack("a signal by a handle", call("pidfd_send_signal", _NUMBERS, -1, 9, 0, 0), "EPERM", "EBADF"),
    Attack("advise another process's memory", call("process_madvise", _NUMBERS, -1, 0, 0, 0, 0), "EPERM", DIFFERS),
    Attack("reap another process's memory", call("process_mrelease", _NUMBERS, -1, 0), "EPERM", DIFFERS),
]  # fmt: skip

SIGNALS = [
    Attack("signal a process of the host", "import os\nos.kill(@victim@, 0)\nresult = [1]", "EPERM"),
    Attack("kill a process of the host", "import os\nos.kill(@victim@, 9)\nresult = [1]", "EPERM"),
    Attack("signal everybody", "import os\nos.kill(-1, 0)\nresult = [1]", "EPERM", "won|ESRCH"),
    Attack("signal its group", "import os\nos.kill(0, 0)\nresult = [1]", "EPERM"),
    Attack("signal the nanny's number", "import os\nos.kill(2, 0)\nresult = [1]", "EPERM", WINS_AS_ROOT),
    Attack("signal a thread of the host", call("tkill", _NUMBERS, "@victim@", 0).replace("'@victim@'", "@victim@"), "EPERM"),
    Attack("queue a signal", call("rt_sigqueueinfo", _NUMBERS, "@victim@", 0, 0).replace("'@victim@'", "@victim@"), "EPERM", "EFAULT"),
    Attack("an alarm after the end", "import signal\nsignal.setitimer(signal.ITIMER_REAL, 100)\nresult = [1]", "EPERM"),
    Attack("stop the first process", "import os, signal\nos.kill(1, signal.SIGSTOP)\nwhile True: pass  # endless", "wall_time_s",
        "none: outside it would stop the machine's init", Limits(wall_time_s=0.3)),
]  # fmt: skip

EXEC = [
    Attack("spawn a shell", "import subprocess\nresult = subprocess.run(['/bin/sh', '-c', 'echo x'], capture_output=True).stdout", "EPERM|ENOENT"),
    Attack("a command of the system", "import os\nr = os.system('true')\nif r: raise OSError(1, 'denied')\nresult = [1]", "EPERM"),
    Attack("become another program", "import os, sys\nos.execv('/bin/true', ['x'])", "seccomp", "exit code 0.*"),
    Attack("become the loader", "import glob, os\nos.execv((glob.glob('/lib64/ld-linux*') + glob.glob('/lib/ld-linux*'))[0], ['x', '--version'])",
        "seccomp", "exit code 0.*"),
    Attack("become a program in memory", "import os\nfd = os.memfd_create('x')\nos.write(fd, open('/bin/true', 'rb').read())\nos.execve(fd, ['x'], {})",
        "EPERM|ENOENT", "exit code 0.*"),
    Attack("memory that is a file", "import os\nresult = [os.memfd_create('x')]", "EPERM"),
    Attack("execveat", call("execveat", _NUMBERS, -100, b"/bin/true", 0, 0, 0), "seccomp", "exit code 0.*|EFAULT"),
    Attack("posix_spawn", "import os\nresult = [os.posix_spawn('/bin/true', ['x'], {})]", "EPERM|ENOENT"),
    Attack("a script of one's own", "import os, tempfile\np = tempfile.gettempdir() + '/x'\n"
        "open(p, 'w').write('#!/bin/sh\\n')\nos.chmod(p, 0o755)\nos.execv(p, [p])", "EPERM|seccomp", "exit code 0.*"),
]  # fmt: skip

_BOMB = "for _ in range(40):\n    if {fork} == 0: os._exit(0)\nresult = [1]"
COPIES = [
    Attack("fork", "import os\npid = os.fork()\nif pid == 0: os._exit(0)\nresult = [pid]", "EPERM"),
    Attack("fork twice and let go", "import os\nif os.fork() == 0:\n    if os.fork(): os._exit(0)\n    os.setsid()\n    os._exit(0)\nresult = [1]", "EPERM"),
    Attack("fork bomb", "import os\n" + _BOMB.format(fork="os.fork()"), "EPERM"),
    Attack("clone a process", "import os\n" + call("clone", _NUMBERS, 17, 0, 0, 0, 0) + "\nif result == [0]: os._exit(0)", "EPERM"),
    Attack("clone with flags in memory", CHECKED + "import os\nflags = ctypes.create_string_buffer(88); flags[32] = 17\n"
        "result = checked(libc.syscall(ctypes.c_long(435), flags, ctypes.c_long(88)))\nif result == [0]: os._exit(0)", "ENOSYS"),
    Attack("clone into new namespaces", CHECKED + "import os\nresult = checked(libc.syscall(ctypes.c_long(@clone@), ctypes.c_long(0x10000011), 0, 0, 0, 0))\n"
        "if result == [0]: os._exit(0)", "EPERM", "won|EPERM|ENOSPC"),
    Attack("a thread in new namespaces", CHECKED + "result = checked(libc.syscall(ctypes.c_long(@clone@), ctypes.c_long(0x10000 | 0x800 | 0x100 | 0x40000000), 0, 0, 0, 0))",
        "EPERM|EINVAL", "none: as root it would start a thread without a stack"),
    Attack("a pool of processes", "import multiprocessing as m\nresult = m.get_context('fork').Pool(2).map(abs, [1])", "EPERM|ENOENT"),
    Attack("thread bomb", "import threading\nstop = threading.Event()\ntry:\n    for _ in range(60): threading.Thread(target=stop.wait, daemon=True).start()\n"
        "    result = [1]\nfinally: stop.set()", "RuntimeError: can't start new thread"),
]  # fmt: skip

PRIVILEGES = [
    Attack("become root", "import os\nos.setuid(0)\nresult = [1]", "EPERM", WINS_AS_ROOT),
    Attack("leave its groups", "import os\nos.setgroups([0])\nresult = [1]", "EPERM", WINS_AS_ROOT),
    Attack("take capabilities", CHECKED + "import struct\nresult = checked(libc.capset(struct.pack('=Ii', 0x20080522, 0), b'\\xff' * 24))", "EPERM", "won|EPERM"),
    Attack("keep capabilities over a change of user", CHECKED + "result = checked(libc.prctl(8, 1, 0, 0, 0))", "EPERM"),
    Attack("become debuggable", CHECKED + "result = checked(libc.prctl(4, 1, 0, 0, 0) + 0)", "EPERM"),
    Attack("outlive the parent", CHECKED + "result = checked(libc.prctl(1, 0, 0, 0, 0))", "EPERM"),
    Attack("adopt orphans", CHECKED + "result = checked(libc.prctl(36, 1, 0, 0, 0))", "EPERM"),
    Attack("move one's own memory map", CHECKED + "result = checked(libc.prctl(35, 1, 0, 0, 0))", "EPERM", "EINVAL|EPERM|EACCES"),
    Attack("speculate at will", CHECKED + "result = checked(libc.prctl(53, 0, 2, 0, 0))", "EPERM", "none: processors differ"),
    Attack("raise priority", "import os\nos.nice(-5)\nresult = [1]", "EPERM", WINS_AS_ROOT),
    Attack("run in real time", "import os\nos.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))\nresult = [1]", "EPERM", WINS_AS_ROOT),
    Attack("choose a processor", "import os\nos.sched_setaffinity(0, os.sched_getaffinity(0))\nresult = [1]", "EPERM"),
    Attack("raise a limit", "import resource as r\nr.setrlimit(r.RLIMIT_NOFILE, (r.getrlimit(r.RLIMIT_NOFILE)[1] + 1,) * 2)\nresult = [1]",
        "ValueError: not allowed|EPERM",
        "none: it needs CAP_SYS_RESOURCE, which containers lack"),
    Attack("lift the limit of memory", "import resource as r\nr.setrlimit(r.RLIMIT_AS, (r.RLIM_INFINITY,) * 2)\nresult = [1]", "ValueError: not allowed|EPERM"),
    Attack("set another process's limit", "import resource as r\nr.prlimit(@victim@, r.RLIMIT_CPU, (100, 100))\nresult = [1]", "EPERM"),
    Attack("a new session", "import os\nif os.getpid() != os.getsid(0): os.setsid()\nelse: os.setpgid(0, 0)\nresult = [1]", "EPERM", "won|EPERM"),
    Attack("change the host's name", "import socket\nsocket.sethostname(socket.gethostname())\nresult = [1]", "EPERM", WINS_AS_ROOT),
    Attack("set the clock", "import time\ntime.clock_settime(time.CLOCK_REALTIME, -1.5)", "EPERM", DIFFERS_AS_ROOT),
]  # fmt: skip
