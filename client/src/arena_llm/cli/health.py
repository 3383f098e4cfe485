"""arena-llm health"""

from __future__ import annotations

import argparse

from arena_llm.cli._output import Output, plain
from arena_llm.client import Client

HELP = "tell whether the target serves, and which backends it cannot reach"


def arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(client: Client, args: argparse.Namespace, output: Output) -> int:
    """Print the health and the unreachable backends; fail unless the target serves.

    A backend that does not run is no failure of the target: it serves the others.
    """
    status = client.health()
    overall = client.is_available()
    if output.json:
        output.document({"target": client.target, "status": status, **plain(overall)})
    else:
        rows = [(client.target, status, overall.detail or "-")]
        rows += [
            (f"{backend.backend} {backend.address}", "UNREACHABLE", backend.detail or "-")
            for backend in overall.unreachable
        ]
        output.table(("WHERE", "STATUS", "DETAIL"), rows)
    return 0 if status == "SERVING" else 1
