"""Attacks on files and links."""

# ruff: noqa: E501 - a table reads best with one attack a line

from tests.sandbox.attacks.attack import CHECKED, DIFFERS, LIBC, WINS_AS_ROOT, Attack

_GONE = "EPERM|EACCES|ENOENT"
ATTACKS = [
    Attack("read the account file", "result = open('/etc/passwd').read()", _GONE),
    Attack("read the password file", "result = open('/etc/shadow').read()", _GONE, WINS_AS_ROOT),
    Attack("read a secret that everybody may read", "result = open('@secret@').read()", "ENOENT"),
    Attack("list the homes", "import os\nresult = os.listdir('/home') + os.listdir('/root') + ['x']", _GONE, WINS_AS_ROOT),
    Attack("list the root folder", "import os\nresult = os.listdir('/')", "EACCES"),
    Attack("list the system's state", "import os\nresult = os.listdir('/run') + os.listdir('/var') + ['x']", _GONE),
    Attack("list the kernel's objects", "import os\nresult = os.listdir('/sys')", _GONE),
    Attack("list devices", "import os\nresult = os.listdir('/dev')", "EACCES"),
    Attack("open the host's memory", "f = open('/dev/mem', 'rb')\nresult = [1]", _GONE, "none: the device may be missing outside too"),
    Attack("open the terminal", "result = [open('/dev/tty', 'w')]", _GONE + '|EROFS', "won|ENXIO"),
    Attack("make a device node", "import os, stat, tempfile\np = tempfile.gettempdir() + '/node'\n"
        "os.mknod(p, 0o600 | stat.S_IFCHR, os.makedev(1, 5))\nresult = [open(p, 'rb').read(1)]", "EPERM", WINS_AS_ROOT),
    Attack("make a fifo", "import os, tempfile\nos.mkfifo(tempfile.gettempdir() + '/fifo')\nresult = [1]", "EPERM"),
    Attack("follow a symbolic link out", "import os, tempfile\np = tempfile.gettempdir() + '/link'\n"
        "os.symlink('/etc/passwd', p)\nresult = open(p).read()", "EPERM"),
    Attack("hard-link a file in", "import os, tempfile\np = tempfile.gettempdir() + '/link'\n"
        "os.link('@secret@', p)\nresult = open(p).read()", _GONE, "won|EXDEV|EPERM"),
    Attack("hard-link a library in and change it", "import os, tempfile\np = tempfile.gettempdir() + '/own.py'\n"
        "open(p, 'w').close()\nos.link(p, p + '2')\nresult = [1]", "EPERM"),
    Attack("climb with dots", "result = open('/tmp/../../../../../etc/passwd').read()", _GONE),
    Attack("climb with a folder's descriptor", "import os\nfd = os.open('/usr/lib', os.O_RDONLY)\n"
        "result = os.read(os.open('../../etc/passwd', os.O_RDONLY, dir_fd=fd), 10)", _GONE),
    Attack("follow a magic link to a descriptor", "import os\nresult = [os.open('/proc/self/fd/0', os.O_RDONLY)]", "ENOENT", DIFFERS),
    Attack("follow a magic link to the root", "import os\nresult = os.listdir('/proc/self/root/etc')", "ENOENT"),
    Attack("follow a magic link to a parent's folder", "import os\nresult = [os.readlink('/proc/@victim@/cwd')]", "ENOENT"),
    Attack("write into the standard library", "import os\nresult = [open(os.__file__, 'a')]", "EROFS|EACCES", WINS_AS_ROOT),
    Attack("write beside an installed package", "import os, numpy\np = numpy.__path__[0] + '/canary.py'\n"
        "result = [open(p, 'w')]\nos.unlink(p)", "EROFS|EACCES", WINS_AS_ROOT),
    Attack("create a file in the root folder", "import os\nresult = [open('/canary', 'w')]\nos.unlink('/canary')", "EROFS|EACCES", WINS_AS_ROOT),
    Attack("delete a library", "import os\nos.unlink(os.__file__ + '.missing')", "EROFS|EACCES|EPERM", "ENOENT"),
    Attack("change a mode", "import os\nos.chmod('@secret@', 0o644)\nresult = [1]", _GONE),
    Attack("change an owner", "import os\nos.chown('/usr/lib', 0, 0)\nresult = [1]", "EPERM", WINS_AS_ROOT),
    Attack("set the set-user-id bit", "import os, tempfile\np = tempfile.gettempdir() + '/x'\nopen(p, 'w').close()\n"
        "os.chmod(p, 0o4755)\nresult = [1]", "EPERM"),
    Attack("set an extended attribute", "import os, tempfile\np = tempfile.gettempdir() + '/x'\nopen(p, 'w').close()\n"
        "os.setxattr(p, 'user.x', b'1')\nresult = [1]", "EPERM", "won|ENOTSUP"),
    Attack("touch a time", "import os, tempfile\np = tempfile.gettempdir() + '/x'\nopen(p, 'w').close()\n"
        "os.utime(p, (1, 1))\nresult = [1]", "EPERM"),
    Attack("load a library of one's own", "import ctypes, glob, shutil, tempfile\n"
        "p = tempfile.gettempdir() + '/x.so'\nsource = [l.split()[0] for l in ()] or "
        "__import__('_ctypes').__file__\nshutil.copyfile(source, p)\nresult = [str(ctypes.CDLL(p))]",
        r"OSError: .*failed to map segment"),
    Attack("map a file of one's own as code", "import mmap, tempfile\nf = open(tempfile.gettempdir() + '/x', 'w+b')\n"
        "f.write(bytes(4096)); f.flush()\nresult = [len(mmap.mmap(f.fileno(), 4096, prot=5, flags=2))]", "EPERM"),
    Attack("read shared memory", "import os\nresult = os.listdir('/dev/shm') + ['x']", _GONE),
    Attack("make shared memory", "from multiprocessing import shared_memory\n"
        "m = shared_memory.SharedMemory('canary-@victim@', True, 64)\nresult = [m.size]\nm.unlink()", _GONE),
    Attack("a nameless file beneath the root", "import os\nresult = [os.open('/usr/lib', os.O_TMPFILE | os.O_RDWR)]",
        "EROFS|EACCES", WINS_AS_ROOT),
    Attack("change the root folder and back out of it", "import os\nos.chroot('/tmp')\nresult = [1]", "seccomp", WINS_AS_ROOT),
    Attack("read what only Landlock hides", "result = open('/landlock-canary').read()", "EACCES", "ENOENT"),
    Attack("watch a folder", LIBC + CHECKED + "result = checked(libc.inotify_init1(0))", "EPERM"),
    Attack("lock a file of the host", "import fcntl, os\nf = open(os.__file__)\nfcntl.flock(f, fcntl.LOCK_EX)\nresult = [1]", "EPERM"),
    Attack("take a lease on a library", "import fcntl, os\nf = os.open(os.__file__, os.O_RDONLY)\n"
        "fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_RDLCK)\nresult = [1]", "EPERM|EACCES|EINVAL", WINS_AS_ROOT),
]  # fmt: skip
