"""`arena-llm top`: the router's state in the terminal, updated every second.

It shows what the router's page shows: /status.json at the `metrics` address of its configuration.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arena_llm.cli.output import Output
from arena_llm.client import Client
from arena_llm.connection import METRICS_PORT_VARIABLE, read_checkout_settings
from arena_llm.errors import InvalidArgumentError, UnavailableError
from arena_llm.prices import format_dollars
from arena_llm.types import to_picousd

#: Of the router's metrics.
_DEFAULT_PORT = "50150"
_SECONDS = 1.0
#: Columns of a file or a pipe. rich would assume 80, and break names.
_WIDE = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--page",
        metavar="URL",
        help="the router's page, which `make up` prints (default: "
        f"http://127.0.0.1:${METRICS_PORT_VARIABLE}, else port {_DEFAULT_PORT})",
    )
    parser.add_argument("--once", action="store_true", help="print once, and exit")


def run(client: Client, args: argparse.Namespace, output: Output) -> int:
    """Show the state until interrupted; once with --once, as JSON, or if there is no terminal."""
    page = args.page or _find_page()
    if output.json:
        output.document(_fetch(page))
        return 0
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        raise InvalidArgumentError(
            "top needs rich: pip install 'arena-llm[top]', or use --json", reason="INVALID_REQUEST"
        ) from None
    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(highlight=False, width=None if narrow else _WIDE)
    status = _fetch(page)
    if args.once or not console.is_terminal:
        console.print(_draw(status, page))
        return 0
    with Live(_draw(status, page), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(_SECONDS)
            try:
                status, problem = _fetch(page), ""
            except UnavailableError as error:
                problem = str(error)  # shown above the last figures, until it answers again
            live.update(_draw(status, page, problem), refresh=True)


def _find_page() -> str:
    settings = {**read_checkout_settings(Path.cwd()), **os.environ}
    return f"http://127.0.0.1:{settings.get(METRICS_PORT_VARIABLE) or _DEFAULT_PORT}"


def _fetch(page: str) -> dict[str, Any]:
    if not page.startswith(("http://", "https://")):
        page = f"http://{page}"
    url = f"{page.rstrip('/')}/status.json"
    # The page is the operator's own: http_proxy is for other hosts.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UnavailableError(
            f"no router shows its state at {url} ({reason}): name its page with --page; `make up` "
            "prints it, and configs/router.yaml sets it (metrics)",
            reason="BACKEND_DOWN",
        ) from None


def _draw(status: Mapping[str, Any], page: str, problem: str = "") -> Any:
    from rich.console import Group
    from rich.text import Text

    models = status["models"]
    calls, out = (sum(m[key] for m in models) for key in ("calls_per_s", "output_per_s"))
    head = (
        f"{status['in_flight']:.0f} calls in flight · {_rate(calls)} calls/s · {_rate(out)} tokens "
        f"out/s · {_dollars(status['cost_usd'])} since the router started"
    )
    parts: list[Any] = [Text("Arena LLM  ", style="bold") + Text(page, style="dim"), Text(head)]
    if problem:
        parts.append(Text(f"{problem}. The figures are old.", style="bold red"))
    parts += [
        _table(
            ("BACKEND", "REPLICA", "STATE", ">IN FLIGHT", ">WAITING", ""),
            [cells for backend in status["backends"] for cells in _replica_cells(backend)],
        ),
        _table(
            (
                *("MODEL", ">IN\nFLIGHT", ">CALLS\n/S", ">P50", ">P99", ">TOKENS\nIN/S", ">OUT/S"),
                *(">CALLS", ">FAILED", ">COST"),
            ),
            [_model_cells(model) for model in models],
        ),
        _table(
            ("TOKEN", ">CALLS/S", ">CALLS", ">TOKENS", ">COST"),
            [_client_cells(client) for client in status["clients"]],
        ),
        Text(f"rates and quantiles of the last {status['seconds']:.0f} s", style="dim"),
    ]
    return Group(*parts)


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Any:
    """A table; a column whose name begins with ">" has numbers. Empty without rows."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return Text("")
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for name in columns:
        is_number = name.startswith(">")
        table.add_column(
            name.removeprefix(">"),
            justify="right" if is_number else "left",
            no_wrap=is_number or name == "STATE",
            overflow="fold",
        )
    for cells in rows:
        # Text: what the services say is never markup.
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells))
    return Group(Text(""), table)


#: How the state of a replica is shown.
_STYLES = {"serving": "green", "unreachable": "bold red", "draining": "yellow"}


def _replica_cells(backend: Mapping[str, Any]) -> list[tuple[str, ...]]:
    replicas = backend["replicas"]
    name = backend["backend"]
    if len(replicas) > 1:
        name = f"{name} ({backend['serving']} of {len(replicas)})"
    return [
        (
            "" if place else name,
            replica["address"],
            replica["state"],
            *_calls(replica),
            replica["detail"],
        )
        for place, replica in enumerate(replicas)
    ]


def _calls(replica: Mapping[str, Any]) -> tuple[str, str]:
    if replica["state"] == "unreachable":  # only the calls that the router holds are known
        return "-", str(replica["waiting"] or "-")
    return str(replica["in_flight"]), str(replica["waiting"])


def _model_cells(model: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        model["model"],
        f"{model['in_flight']:,.0f}",
        _rate(model["calls_per_s"]),
        _seconds(model["p50_s"]),
        _seconds(model["p99_s"]),
        _rate(model["input_per_s"]),
        _rate(model["output_per_s"]),
        f"{model['calls']:,.0f}",
        f"{model['failed']:,.0f}",
        _dollars(model["cost_usd"]),
    )


def _client_cells(client: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        client["client"],
        _rate(client["calls_per_s"]),
        f"{client['calls']:,.0f}",
        f"{client['tokens']:,.0f}",
        _dollars(client["cost_usd"]),
    )


def _rate(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _dollars(value: float) -> str:
    return format_dollars(to_picousd(value))
