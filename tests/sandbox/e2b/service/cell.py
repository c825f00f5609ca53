"""Started for every command of a test sandbox: locked in as a guest of the local backend is, it runs Python.

    python OPTIONS -S cell.py PLAN FOLDER CWD (-c CODE | -m MODULE | FILE) ARGUMENTS…

No lock of the local backend lets a guest execute a program, so this interpreter, started with the command's
own options and environment, becomes the command itself. The same primitives in the same order as
`local.launcher`, `local.nanny` and `local.guest`; what differs is what a machine of the service has and a
guest of ours has not:

- standard streams, and a /home/user and /tmp that outlive the process: a folder of the host's, so that what
  is uploaded is found; its size is not bounded;
- it may lower its own limits and give up privileges (`seccomp`), as our runner does there.
"""

import json
import os
import resource
import runpy
import signal
import sys
import types
from typing import Any, NoReturn

HOME, TMP = "/home/user", "/tmp"  # noqa: S108 - of the sandbox
LIMITS = {
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_CPU: 600,
    resource.RLIMIT_FSIZE: 512 << 20,
    resource.RLIMIT_NOFILE: 256,
    resource.RLIMIT_NPROC: 64,
    resource.RLIMIT_MEMLOCK: 0,
    resource.RLIMIT_MSGQUEUE: 0,
    resource.RLIMIT_STACK: 8 << 20,
    resource.RLIMIT_AS: 4 << 30,
}
_SET_DUMPABLE, _SET_NO_NEW_PRIVS = 4, 38


def main() -> None:
    """Lock this process in; its child, process 1 of its namespace, is the command."""
    plan, folder, cwd, *words = sys.argv[1:]
    told: dict[str, Any] = json.loads(plan)
    sys.path.insert(0, told["own_root"])
    from neural_trader_sandbox.local import kernel, nanny

    kernel.die_with_parent()
    kernel.architecture()
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    readable = _enter(proc, told["visible"], folder)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # else /proc/self/uid_map belongs to root
    kernel.unshare(nanny._NAMESPACES)  # pyright: ignore[reportPrivateUsage]  # the very same
    kernel.map_identity(proc, 1000, 65534, 65534)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.close_from(3)
    child = kernel.fork()
    if child:
        _watch(child)
    kernel.die_with_parent()
    _lock(readable, cwd)
    sys.path[:] = told["sys_path"]
    for name in [name for name in sys.modules if name.startswith("neural_trader_")]:
        del sys.modules[name]  # the command finds what was uploaded, not what locked it in
    _become(words)


def _enter(proc: int, visible: list[str], folder: str) -> list[str]:
    """A root of its own with the sandbox's folder in its places, and nobody's identity."""
    from neural_trader_sandbox.local import kernel, launcher, root

    uid, gid = os.getuid(), os.getgid()
    is_root = os.geteuid() == 0 and launcher.is_mapped(launcher.NOBODY)
    if is_root:
        kernel.unshare(kernel.CLONE_NEWNS)
    else:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
        kernel.map_identity(proc, launcher.NOBODY, uid, gid)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    trees = {place: kernel.clone_tree(folder + place) for place in (HOME, TMP)}
    readable = root.build([*visible, *root.mapped_libraries()], None)
    # an interpreter that lies below these places stays visible there
    kept = {path: kernel.clone_tree(path) for path in readable if path.startswith((HOME + "/", TMP + "/"))}
    again = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount(None, "/", None, again)
    os.makedirs(HOME, exist_ok=True)
    for place, tree in trees.items():
        kernel.attach_tree(tree, place)
        kernel.mount(None, place, None, again | kernel.MS_NOEXEC)
    for path, tree in kept.items():
        os.makedirs(path, exist_ok=True)
        kernel.attach_tree(tree, path)
    kernel.mount(None, "/", None, again | kernel.MS_RDONLY)
    if is_root:
        kernel.become(launcher.NOBODY)
        kernel.die_with_parent()
    kernel.drop_capabilities()
    return readable


def _lock(readable: list[str], cwd: str) -> None:
    from neural_trader_sandbox.local import kernel, landlock, seccomp

    kernel.unshare(kernel.CLONE_NEWCGROUP)
    kernel.set_host_name("sandbox")
    os.chdir(cwd)
    for which, value in LIMITS.items():
        hard = resource.getrlimit(which)[1]
        kernel.set_limit(which, value if hard == resource.RLIM_INFINITY else min(value, hard))
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    landlock.restrict(readable, [HOME, TMP, "/dev/null"])
    _filter(seccomp)


def _filter(seccomp: Any) -> None:
    """The local backend's filter, with two doors more: lowering its own limits, giving up privileges."""
    conditions = seccomp._conditions
    names = [
        seccomp._PR_SET_NAME,
        seccomp._PR_GET_NAME,
        seccomp._PR_SET_VMA,
        _SET_DUMPABLE,
        _SET_NO_NEW_PRIVS,
    ]

    def wider(own_pid: int) -> dict[str, list[bytes]]:
        to_self = [seccomp._argument(0), *seccomp._one_of([0, own_pid], seccomp._EPERM)]
        giving_up = [seccomp._argument(0), *seccomp._one_of(names, seccomp._EPERM)]
        return conditions(own_pid) | {"prlimit64": to_self, "prctl": giving_up}

    seccomp._conditions = wider
    seccomp.install(os.getpid())


def _watch(child: int) -> NoReturn:
    """Wait for the command, and end as it did."""
    from neural_trader_sandbox.local import kernel

    kernel.drop_capabilities()
    null = os.open(os.devnull, os.O_RDWR)
    for stdio in (0, 1, 2):
        os.dup2(null, stdio)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL) if os.WTERMSIG(status) != signal.SIGKILL else None
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


def _become(words: list[str]) -> None:
    """What `python WORDS…` would do."""
    what, *rest = words or ["-"]
    is_safe = sys.flags.safe_path
    if what == "-V":
        print(f"Python {sys.version.split()[0]}")  # noqa: T201 - that is its purpose
    elif what == "-c":
        code, *arguments = rest
        sys.argv[:] = ["-c", *arguments]
        sys.path[:0] = [] if is_safe else [""]
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), module.__dict__)  # noqa: S102 - it is locked in
    elif what == "-m":
        sys.argv[:] = rest
        sys.path[:0] = [] if is_safe else [os.getcwd()]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = words
        sys.path[:0] = [] if is_safe else [os.path.dirname(os.path.abspath(what))]
        runpy.run_path(what, run_name="__main__")


if __name__ == "__main__":
    main()
