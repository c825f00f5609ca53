"""What a hostile strategy would try. Harmless: it reports what stopped it, and fails if something did not.

The list of imports is only a courtesy, and this file walks around it on purpose (`statistics` has the real
`__import__`). The walls it then meets are the sandbox's.
"""

import statistics

real_import = statistics.__builtins__["__import__"]


def read_a_key():
    for home in ("/root", "/home", "/etc/shadow", "/proc/1/environ"):
        path = real_import("os").path
        if path.isfile(home):
            return open(home, "rb").read(16)
        found = real_import("os").listdir(home)
        if found:
            return found[0]
    raise FileNotFoundError("nothing to read")


def open_a_socket():
    return real_import("socket").create_connection(("192.0.2.1", 443), timeout=2)


def start_a_process():
    return real_import("subprocess").run(["/bin/sh", "-c", "id"], check=True)


def read_the_environment():
    secrets = [name for name in real_import("os").environ if "KEY" in name or "TOKEN" in name]
    if not secrets:
        raise LookupError("the environment holds no secret")
    return secrets


def signals(bars: object):
    stopped: list[str] = []
    for attempt in (read_a_key, read_the_environment, open_a_socket, start_a_process):
        try:
            loot = attempt()
        except Exception as error:
            stopped.append(f"{attempt.__name__}: {type(error).__name__}")
        else:
            raise SystemError(f"{attempt.__name__} SUCCEEDED: {loot!r:.40}")
    raise PermissionError("the sandbox stopped every attempt: " + ", ".join(stopped))
