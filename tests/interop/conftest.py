"""Builds the Go programs, offline, from Debian's packages."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

GO_PATH = Path("/usr/share/gocode")
SOURCES = Path(__file__).parent / "go"
Program = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="session")
def build_go(
    tmp_path_factory: pytest.TempPathFactory, lacking: Callable[[str], NoReturn]
) -> Callable[[str], Program]:
    """Returns what builds one of the programs in `go` and returns what runs it."""
    go = shutil.which("go")
    if go is None or not (GO_PATH / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        lacking("Go and its sumdb packages (apt-get install golang-go golang-golang-x-mod-dev)")
    folder = tmp_path_factory.mktemp("go")
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": str(GO_PATH),
        "GOFLAGS": "",
        "GOCACHE": str(folder / "cache"),
        "CGO_ENABLED": "0",
    }

    def build(source: str) -> Program:
        program = folder / source.replace("/", "-")
        built = subprocess.run(
            [go, "build", "-o", str(program), str(SOURCES / source)], env=environment, capture_output=True
        )
        assert built.returncode == 0, built.stderr.decode()

        def run(*arguments: object, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
            return subprocess.run([program, *map(str, arguments)], input=stdin, capture_output=True)

        return run

    return build
