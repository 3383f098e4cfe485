"""Run an experiment in one process. The same as `arena run`.

python3 scripts/run_multi_model_games.py --config FILE
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_VENV = Path(__file__).resolve().parents[1] / ".venv"

try:
    from arena.cli import main
except ImportError as error:
    # SPEC's command is `python3 ...`: the environment that `make` made does the rest.
    if (_VENV / "bin/python").exists() and Path(sys.prefix) != _VENV:
        os.execv(_VENV / "bin/python", [str(_VENV / "bin/python"), *sys.argv])  # noqa: S606
    sys.exit(
        f"{sys.executable} cannot load the arena ({error}): run `make setup`, then use "
        f".venv/bin/python in place of python3"
    )

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
