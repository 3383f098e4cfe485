"""arena-llm models"""

from __future__ import annotations

import argparse

from arena_llm.cli._cells import price_cell
from arena_llm.cli._output import Output
from arena_llm.client import Client

HELP = "list every model that can be reached"


def arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(client: Client, args: argparse.Namespace, output: Output) -> int:
    """Print the models, and on stderr the backends whose models are missing."""
    found = client.list_models()
    if output.json:
        output.document(found)
        return 0
    output.table(
        ("MODEL", "BACKEND", "CONTEXT", "CAN", "USD PER MILLION TOKENS"),
        [
            (
                model.name,
                model.backend,
                str(model.context_length or "-"),
                " ".join(model.capabilities) or "-",
                price_cell(model.price),
            )
            for model in found
        ],
    )
    for missing in found.unreachable:
        output.warn(f"{missing.backend} ({missing.address}) not listed: {missing.detail}")
    return 0
