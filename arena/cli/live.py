"""arena live [--config EXPERIMENT] [--results FILE] [--listen HOST:PORT]"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

from arena.experiment.file import RESULTS_NAME, name_results
from arena.experiment.load import ExperimentError, load_experiment
from arena_llm import AsyncClient
from arena_llm.command_line import add_target
from arena_llm.connection import find_connection, is_loopback

_LISTEN = "127.0.0.1:50081"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to watch, and the address."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="EXPERIMENT",
        help="show the boards of this experiment's episodes while they run",
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="PATH",
        help="the results file to watch, or its folder (default: the experiment's, or results)",
    )
    parser.add_argument(
        "--listen",
        default=_LISTEN,
        metavar="HOST:PORT",
        help=f"the page's address; port 0: a free one (default: {_LISTEN})",
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="allow an address that other machines reach; the page has no password",
    )
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    """Serve the page until interrupted."""
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise ExperimentError(f"arena live needs {' and '.join(missing)}: install the extra live")
    host, colon, port = args.listen.rpartition(":")
    host = host.strip("[]")
    if not (colon and host and port.isdecimal() and int(port) < 2**16):
        raise ExperimentError(f"--listen: must be HOST:PORT, not {args.listen!r}")
    if not is_loopback(host) and not args.insecure:
        raise ExperimentError(
            f"--listen: other machines reach {host}, and the page has no password: use "
            "127.0.0.1 and a tunnel, or allow it with --insecure"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, int(port)), family=family) as listener:
        asyncio.run(_serve(args, host, listener))
    return 0


async def _serve(args: argparse.Namespace, host: str, listener: socket.socket) -> None:
    from arena.live.server import LiveServer
    from arena.live.watch import Watcher

    experiment = load_experiment(args.config) if args.config else None
    results = experiment.results if experiment else Path("results", RESULTS_NAME)
    if args.results:
        results = name_results(args.results)
    shown = f"[{host}]" if ":" in host else host
    async with AsyncClient(**find_connection(args.target)) as client:
        server = LiveServer(Watcher(results, experiment), client, host)
        sys.stdout.write(f"http://{shown}:{listener.getsockname()[1]}/ (Ctrl-C ends it)\n")
        sys.stdout.flush()
        await server.serve(sockets=[listener])
