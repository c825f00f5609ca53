"""Attacks over the network, Unix sockets and inherited descriptors."""

# ruff: noqa: E501 - a table reads best with one attack a line

from tests.sandbox.attacks.attack import CHECKED, DIFFERS, WINS_AS_ROOT, Attack

_FD3 = "import socket\ns = socket.socket(fileno=3)\n"
# outside, a stream pair stands where the guest has its data socket
_PAIR = "import array, os, socket\ntry: s = socket.socket(fileno=3)\nexcept OSError: s, other = socket.socketpair()\n"
NETWORK = [
    Attack("tcp to a server of the host", "import socket\nresult = [str(socket.create_connection(('127.0.0.1', @port@), 1))]", "EPERM"),
    Attack("tcp over IPv6", "import socket\nsocket.socket(socket.AF_INET6)\nresult = [1]", "EPERM", "won|EAFNOSUPPORT"),
    Attack("listen", "import socket\nsocket.create_server(('127.0.0.1', 0))\nresult = [1]", "EPERM"),
    Attack("udp", "import socket\nresult = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', @port@))]", "EPERM"),
    Attack("raw packets", "import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW)\nresult = [1]", "EPERM", WINS_AS_ROOT),
    Attack("raw IP", "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_RAW, 1)\nresult = [1]", "EPERM", WINS_AS_ROOT),
    Attack("netlink", "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)\nresult = [1]", "EPERM"),
    Attack("vsock to the hypervisor", "import socket\nsocket.socket(40, socket.SOCK_STREAM)\nresult = [1]", "EPERM", "won|EAFNOSUPPORT"),
    Attack("the kernel's cryptography", "import socket\nsocket.socket(38, socket.SOCK_SEQPACKET)\nresult = [1]", "EPERM", "won|EAFNOSUPPORT"),
    Attack("bluetooth", "import socket\nsocket.socket(31, socket.SOCK_RAW)\nresult = [1]", "EPERM", "won|EAFNOSUPPORT|EPROTONOSUPPORT|ESOCKTNOSUPPORT"),
    Attack("resolve a name", "import socket\nresult = socket.getaddrinfo('example.com', 443)", r"gaierror|EPERM",
        "none: the machine that tests may have no resolver"),
    Attack("resolve localhost", "import socket\nresult = socket.getaddrinfo('localhost', 80)", "gaierror|EPERM"),
    Attack("a web request", "import urllib.request\nresult = [urllib.request.urlopen('http://127.0.0.1:@port@', timeout=1)]",
        "EPERM|URLError.*not permitted", "TimeoutError.*"),
]  # fmt: skip

UNIX_SOCKETS = [
    Attack("a path socket of the host", "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('@socket@')\nresult = [1]", "EPERM"),
    Attack("an abstract socket of the host", "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0@abstract@')\nresult = [1]", "EPERM"),
    Attack("an abstract name of one's own", "import socket\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0x@abstract@')\nresult = [1]", "EPERM"),
    Attack("a datagram pair to any address", "import socket\na, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "a.sendto(b'x', '\\0x')", "EPERM", "ECONNREFUSED"),
    Attack("a pair that reconnects", "import socket\na, b = socket.socketpair()\na.connect('\\0@abstract@')\nresult = [1]", "EPERM", "EISCONN"),
    Attack("a pair that listens", "import socket\na, b = socket.socketpair()\na.bind('\\0x@abstract@')\nresult = [1]", "EPERM"),
    Attack("hand a descriptor to the host", _PAIR + "result = [s.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0]))])]", "EPERM"),
    Attack("hand a descriptor around a cycle", "import array, socket\na, b = socket.socketpair()\n"
        "result = [a.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [a.fileno(), b.fileno()]))])]", "EPERM"),
    Attack("receive a descriptor", "import socket\na, b = socket.socketpair()\na.send(b'x')\nresult = [b.recvmsg(1, 100)]", "EPERM"),
    Attack("a handle on the host's process from the socket", _PAIR + "fd = array.array('i', [0]); result = [s.getsockopt(1, 77)]",
        "EPERM", "won|ENOPROTOOPT"),
    Attack("who is at the other end", _PAIR + "result = [s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)]", "EPERM"),
    Attack("out-of-band bytes", _PAIR + "result = [s.send(b'x', socket.MSG_OOB)]", "EPERM", "won|EOPNOTSUPP"),
    Attack("attach a packet filter", _PAIR + "s.setsockopt(socket.SOL_SOCKET, 26, bytes(16))", "EPERM", DIFFERS),
    Attack("enlarge the socket's buffer", _PAIR + "s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)\nresult = [1]", "EPERM"),
]  # fmt: skip

DESCRIPTORS = [
    Attack("find an inherited descriptor", "import os\nresult = []\nfor fd in range(4, 4096):\n"
        "    try: result.append([fd, os.readlink(f'/proc/self/fd/{fd}') if os.path.exists('/proc/self/fd') else os.fstat(fd).st_ino])\n"
        "    except OSError: pass", "nothing", "none: a fresh process inherits none; see test_secrets"),
    Attack("write to the server's standard output", "import os\nresult = os.fstat(1).st_rdev != os.stat('/dev/null').st_rdev", "nothing"),
    Attack("read the server's standard input", "import os\nresult = os.fstat(0).st_rdev != os.stat('/dev/null').st_rdev", "nothing"),
    Attack("duplicate a descriptor of another process", CHECKED + "import os\nfd = checked(libc.syscall(434, @victim@, 0))[0]\n"
        "result = checked(libc.syscall(438, fd, 0, 0))", "EPERM|seccomp"),
    Attack("find a descriptor of another process", "result = open('/proc/@victim@/fd/0')\nresult = [1]", "ENOENT", "won|EACCES"),
    Attack("type into the terminal", "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSTI, b'x')\nresult = [1]", "EPERM|ENOTTY|EACCES",
        "none: a test has no terminal"),
    Attack("ask a terminal's size", "import fcntl, termios, os\nfcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))", "ENOTTY", "none: a test has no terminal"),
    Attack("a pipe's size beyond its bound", "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(w, 1031, 1 << 30)\nresult = [1]", "EPERM", "none: it needs CAP_SYS_RESOURCE, which containers lack"),
    Attack("have signals sent to another process", "import fcntl, os, signal\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, @victim@)\nresult = [1]",
        "ESRCH|EPERM"),
]  # fmt: skip
