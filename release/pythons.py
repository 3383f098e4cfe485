"""The Pythons of this machine that the packages are for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

#: The releases of Python that the client is for.
RELEASES = ("3.11", "3.12", "3.13", "3.14")


def find_pythons() -> dict[str, str]:
    """Return an interpreter for each release that is installed here."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = {}
    for release in RELEASES:
        places = [
            shutil.which(f"python{release}"),
            *map(str, pyenv.glob(f"{release}.*/bin/python")),
        ]
        for path in filter(None, places):
            if _runs(path, release):
                found[release] = path
                break
    return found


def _runs(path: str, release: str) -> bool:
    """Whether an interpreter is of this release, and can make environments."""
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() == release
