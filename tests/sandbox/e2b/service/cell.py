"""Started in front of every command of a test sandbox: closes it in, then becomes that command.

    python cell.py FOLDER CWD COMMAND ARGUMENTS…

A cell has no network and sees the sandbox's folder as its /home/user and /tmp. It is there to be like a
virtual machine to a test's own code, not to hold a stranger: that is the local backend's work.
"""

import os
import sys
import tempfile

HOMES, HOME, TMP = "/home", "/home/user", "/tmp"  # noqa: S108 - of the sandbox


def main() -> None:
    """Enter fresh namespaces, put the folder in its places, become the command."""
    package, folder, cwd, *command = sys.argv[1:]
    sys.path.insert(0, package)
    from neural_trader_sandbox.local import kernel

    kernel.die_with_parent()
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(
        kernel.CLONE_NEWUSER
        | kernel.CLONE_NEWNS
        | kernel.CLONE_NEWNET
        | kernel.CLONE_NEWIPC
        | kernel.CLONE_NEWUTS
    )
    kernel.map_identity(proc, 1000, uid, gid)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    home = kernel.clone_tree(folder + HOME)
    tmp = kernel.clone_tree(folder + TMP)
    # homes of the host may hold the interpreter: they stay where they are
    others = {entry.name: kernel.clone_tree(entry.path) for entry in os.scandir(HOMES) if entry.is_dir()}
    kernel.mount("tmpfs", HOMES, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV)
    others["user"] = home
    for name, tree in others.items():
        os.mkdir(f"{HOMES}/{name}")
        kernel.attach_tree(tree, f"{HOMES}/{name}")
    if sys.prefix.startswith(tempfile.gettempdir()):
        os.close(tmp)  # the interpreter itself lies below /tmp
    else:
        kernel.attach_tree(tmp, TMP)
    os.chdir(cwd)
    os.execv(command[0], command)  # noqa: S606 - that is its purpose


if __name__ == "__main__":
    main()
