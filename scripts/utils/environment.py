"""The environment that `make` made, for commands that name `python3`: any Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

_VENV = Path(__file__).resolve().parents[2] / ".venv"


def enter(missing: ImportError) -> NoReturn:
    """Begin the running script anew in the environment; leave if there is none, or it is this one.

    missing: what this Python could not import.
    """
    python = _VENV / "bin/python"
    if python.exists() and Path(sys.prefix) != _VENV:
        os.execv(python, [str(python), *sys.argv])  # noqa: S606 - our own interpreter
    sys.exit(
        f"{sys.executable} cannot load what this needs ({missing}): run `make setup`, then use "
        ".venv/bin/python in place of python3"
    )
