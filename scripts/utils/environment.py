"""Restarts a script in the project's environment if another Python started it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

_VENV = Path(__file__).resolve().parents[2] / ".venv"


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
