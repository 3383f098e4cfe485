"""Environments of foreign programs: `python -m tests.doors.environments [OPTION] [NAME...]`.

Each program has its own environment, .cache/doors/NAME, because many conflict with each other or
with the services. `requirements/NAME.in` names the program with its exact version, and
`requirements/NAME.txt` locks all that it needs by hash; `--lock` writes it. Without names all are
made. With `--light` only those are made whose first line in NAME.in is `# light`: continuous
integration runs their tests. A line `# python 3.12` in NAME.in says that the program needs this
release or a later one. Its tests are skipped where there is none.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.environment import UV, install_uv, pip_sources, uv_environ

ROOT = Path(__file__).parents[2]
REQUIREMENTS = Path(__file__).parent / "requirements"
#: The file of an environment that says for which lock it was made.
_STAMP = ".made-for"


def list_names(*, light: bool = False) -> list[str]:
    """The names of the programs. light: those that continuous integration runs only."""
    files = sorted(REQUIREMENTS.glob("*.in"))
    return [f.stem for f in files if not light or f.read_text().startswith("# light\n")]


def folder(name: str) -> Path:
    """The environment of a program."""
    cache = Path(os.environ.get("ARENA_CACHE_DIR") or ROOT / ".cache")
    return cache / "doors" / name


def find_python(name: str) -> Path | None:
    """The interpreter of a program; None if its environment is missing or for another lock."""
    stamp = folder(name) / _STAMP
    return folder(name) / "bin/python" if _read(stamp) == _digest(name) else None


def find_base(name: str) -> str | None:
    """The Python that an environment is made with; None if no installed one is new enough."""
    oldest = _oldest_python(name)
    if sys.version_info >= oldest:
        return sys.executable
    names = [f"python3.{minor}" for minor in range(oldest[1], oldest[1] + 4)]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = [*filter(None, map(shutil.which, names)), *map(str, pyenv.glob("*/bin/python"))]
    return next((python for python in found if _version(python) >= oldest), None)


def _oldest_python(name: str) -> tuple[int, int]:
    text = (REQUIREMENTS / f"{name}.in").read_text()
    found = re.search(r"^# python 3\.(\d+)$", text, re.MULTILINE)
    return (3, int(found[1]) if found else 11)


def _version(python: str) -> tuple[int, ...]:
    """The version of an interpreter; () if it does not run, like a link of pyenv to nothing."""
    code = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return tuple(map(int, done.stdout.split()))


def make(name: str) -> None:
    """Make the environment of a program, unless it is made. Raises CalledProcessError."""
    if find_python(name) is not None:
        return
    base = find_base(name)
    if base is None:
        print(f"{name} needs Python 3.{_oldest_python(name)[1]}, which is not installed")
        return
    print(f"making {folder(name)}", flush=True)
    target = str(folder(name))
    _uv("venv", "--quiet", "--clear", "--python", base, target)
    lock = str(REQUIREMENTS / f"{name}.txt")
    python = f"{target}/bin/python"
    _uv("pip", "sync", "--quiet", "--require-hashes", *_folders(), "--python", python, lock)
    (folder(name) / _STAMP).write_text(_digest(name))


def lock(name: str) -> None:
    """Write the lock of a program. Raises CalledProcessError."""
    source, target = (str(REQUIREMENTS / f"{name}.{end}") for end in ("in", "txt"))
    quiet = ("--quiet", "--no-header", "--no-annotate", "--python-version")
    version = ".".join(map(str, _oldest_python(name)))
    what = ("--generate-hashes", "--upgrade", source, "-o", target)
    _uv("pip", "compile", *quiet, version, *_folders(), *what)


def _folders() -> list[str]:
    """Folders with builds that the index may lack, such as torch for CPUs."""
    return [word for source in pip_sources() if source[0] == "--find-links" for word in source]


def _uv(*arguments: str) -> None:
    # Not the configuration of this project, whose packages are others.
    command = [str(UV), "--no-config", *arguments]
    subprocess.run(command, env=uv_environ(UV_PYTHON_DOWNLOADS="never"), check=True)


def _digest(name: str) -> str:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    text = (REQUIREMENTS / f"{name}.txt").read_bytes()
    return f"{python} {hashlib.sha256(text).hexdigest()}"


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.doors.environments")
    parser.add_argument("--lock", action="store_true")
    parser.add_argument("--light", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args(words)
    install_uv()
    for name in options.names or list_names(light=options.light):
        if options.lock:
            lock(name)
        make(name)


if __name__ == "__main__":
    main(sys.argv[1:])
