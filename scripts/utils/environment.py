"""Brings a script into the project's environment, with the parts that it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

_ROOT = Path(__file__).resolve().parents[2]
_VENV = _ROOT / ".venv"


def enter(missing: ImportError) -> NoReturn:
    """Restart the running script with the environment's Python.

    Exits with a message if there is no environment, or if this Python is already the
    environment's. missing: the failed import.
    """
    python = _VENV / "bin/python"
    if python.exists() and Path(sys.prefix) != _VENV:
        os.execv(python, [str(python), *sys.argv])  # noqa: S606 - a fixed path
    sys.exit(
        f"{sys.executable} cannot import what it needs ({missing}): run `make setup`, then use "
        ".venv/bin/python in place of python3"
    )


def need(part: str) -> None:
    """Install a part of the environment that `make up` left out: the package of the same name.

    Exits if that fails. Does nothing in any other environment, which belongs to the user.
    """
    if find_spec(part) is not None or Path(sys.prefix) != _VENV:
        return
    print(f"{part} is missing: installing it, once", file=sys.stderr)
    # Not the environment's own Python: an environment cannot make itself.
    python = getattr(sys, "_base_executable", sys.executable)
    command = [python, _ROOT / "deploy/environment.py", "services", part]
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode:  # noqa: S603
        sys.exit(f"{part} cannot be installed: see above")
