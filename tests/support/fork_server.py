"""Runs a command in processes that start fast: forks of one process that has imported it.

Each process gets its own standard streams, as a shell would give them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Self

#: Instead of the path of a stream: the stream is closed, or a pipe that nobody reads any more.
CLOSED, UNREAD = "closed", "unread"

_SERVER = """
import gc, importlib, io, json, os, sys

def open_stream(number, settings):
    # As the interpreter does when it starts.
    try:
        os.fstat(number)
    except OSError:
        return None
    buffered = not (settings["unbuffered"] and number)
    raw = open(number, "wb" if number else "rb", -1 if buffered else 0, closefd=False)
    return io.TextIOWrapper(
        raw, settings["encoding"], settings["errors"], write_through=not buffered
    )

def become(settings):
    os.close(requests.fileno()), os.close(answers.fileno())
    os.chdir(settings["folder"])
    for number, path in enumerate(settings["files"]):
        if path == "closed":
            os.close(number)
            continue
        if path == "unread":
            reader, file = os.pipe()
            os.close(reader)
        else:
            file = os.open(path, os.O_WRONLY if number else os.O_RDONLY)
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = (open_stream(number, settings) for number in range(3))
    sys.exit(importlib.import_module(settings["module"]).main(settings["command"]))

requests, answers = (open(int(number), mode) for number, mode in zip(sys.argv[1:3], "rw"))
for module in sys.argv[3:]:
    importlib.import_module(module)
gc.freeze()  # a child's garbage collector would copy all of the modules' memory
for line in requests:
    settings = json.loads(line)
    if not (child := os.fork()):
        become(settings)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, file=answers, flush=True)
"""


class Done(NamedTuple):
    """Exit code, stdout and stderr of a command, byte by byte."""

    code: int
    out: str
    err: str


@dataclass
class _Settings:
    module: str
    command: Sequence[str]
    folder: str
    files: Sequence[str]
    encoding: str
    errors: str
    unbuffered: bool


class ForkServer:
    """module: has `main(argv) -> exit code`. preload: further modules to import."""

    def __init__(self, module: str, *preload: str) -> None:
        self._module = module
        ours, theirs = os.pipe(), os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, str(ours[0]), str(theirs[1]), module, *preload],
            stdin=subprocess.DEVNULL,
            pass_fds=(ours[0], theirs[1]),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._requests, self._answers = os.fdopen(ours[1], "w"), os.fdopen(theirs[0])

    def run(
        self,
        folder: Path,
        command: Sequence[str],
        *,
        stdin: str = os.devnull,
        stdout: str = "",
        stderr: str = "",
        encoding: str = "utf-8",
        errors: str = "strict",
        unbuffered: bool = False,
    ) -> Done:
        """Run the command in a folder. stdin, stdout, stderr: a path, CLOSED or UNREAD."""
        kept = [folder / ".stdout", folder / ".stderr"]
        for path in kept:
            path.write_bytes(b"")
        files = [stdin, stdout or str(kept[0]), stderr or str(kept[1])]
        settings = _Settings(
            self._module, command, str(folder), files, encoding, errors, unbuffered
        )
        self._requests.write(json.dumps(asdict(settings)) + "\n")
        self._requests.flush()
        code = int(self._answers.readline())
        out, err = (path.read_text("latin-1") for path in kept)
        for path in kept:
            path.unlink()
        return Done(code, out, err)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._requests.close()
        self._answers.close()
        self._process.wait()
