"""`python -m deploy.ray up|down|status [--address HOST:PORT]`, for the Makefile."""

from __future__ import annotations

import argparse
import sys

from deploy.ray.cluster import RayProblem, down, run_head, status, up
from services.common.config import ConfigError


def main() -> int:
    parser = argparse.ArgumentParser(prog="deploy.ray")
    parser.add_argument("command", choices=("up", "down", "status", "head"))
    parser.add_argument("--address", help="Ray cluster (default: Ray on this machine)")
    args = parser.parse_args()
    try:
        match args.command:
            case "up":
                up(args.address or None)
            case "down":
                print("down" if down(args.address or None) else "nothing was up")
                return 0
            case "head":
                run_head()
                return 0
        print(status(args.address or None))
    except (RayProblem, ConfigError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
