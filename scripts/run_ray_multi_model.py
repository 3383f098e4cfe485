"""Run an experiment in several processes, with Ray. The same as `arena run --runner ray`.

python3 scripts/run_ray_multi_model.py --config FILE
"""

from __future__ import annotations

import sys

from utils.environment import enter, need

try:
    from arena.cli import main
except ImportError as error:
    enter(error)

if __name__ == "__main__":
    if any(word.partition("=")[0] == "--config" for word in sys.argv):
        need("ray")
    sys.exit(main(["run", "--runner", "ray", *sys.argv[1:]]))
