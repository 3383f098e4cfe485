"""Run an experiment in one process. The same as `arena run`.

python3 scripts/run_multi_model_games.py --config FILE
"""

from __future__ import annotations

import sys

from utils.environment import enter

try:
    from arena.cli import main
except ImportError as error:
    enter(error)

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
