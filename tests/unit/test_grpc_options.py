"""grpc ignores an option or a variable that it does not know: every name is looked up in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from grpc._cython import cygrpc

from arena_llm._transport import channel_options
from router import backend
from router.config import Route
from services.common.config import ServiceConfig
from services.common.server import server_options

ROOT = Path(__file__).parents[2]
FOLDERS = ("arena", "bench", "client/src", "deploy", "router", "scripts", "services", "tests")


@cache
def names() -> frozenset[str]:
    """Names in grpc's library; what precedes one need not end in a zero byte."""
    library = Path(cygrpc.__file__).read_bytes()
    found = re.findall(rb"(?i)(?<![\w.])(?:grpc\.[\w.]+|grpc_\w+)(?=\x00)", library)
    return frozenset(name.decode() for name in found)


def options(path: Path) -> Iterator[str]:
    """The names in a file's pairs ("grpc.name", value), and its GRPC_ variables."""
    text = path.read_text()
    if not re.search("grpc[._]", text, re.IGNORECASE):
        return
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Tuple(elts=[ast.Constant(value=str(name)), _]) if name.startswith("grpc."):
                yield name
            case ast.Constant(value=str(name)) if re.fullmatch("GRPC_[A-Z_]+", name):
                yield name


def known(name: str) -> bool:
    """Whether grpc's library holds the name as a whole string, of C or of Python."""
    # Variables of grpc's own configuration are lower case there.
    ways = {name, name.lower()} if name.isupper() else {name}
    return not ways.isdisjoint(names())


@cache
def used() -> dict[str, Path]:
    """The options and variables in all files, each with one of its files."""
    return {
        name: path.relative_to(ROOT)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if path.name != Path(__file__).name and not path.name.endswith("_pb2_grpc.py")
        for name in options(path)
    }


def test_grpc_knows_every_option() -> None:
    assert {name: path for name, path in used().items() if not known(name)} == {}


def test_every_option_was_looked_up() -> None:
    """Also where options are put together from parts."""
    route = Route(targets=["127.0.0.1:1"])
    sets = (
        server_options(ServiceConfig(listen="127.0.0.1:0")),
        backend.channel_options(route),
        channel_options("localhost:1"),
    )
    assert {name for options in sets for name, _ in options} <= set(used())


@pytest.mark.parametrize(
    "wrong", ["grpc.http2.min_recv_ping_interval_without_data_ms", "grpc.http2.ping", "GRPC_NONE"]
)
def test_a_wrong_name_would_be_noticed(wrong: str) -> None:
    assert not known(wrong)
