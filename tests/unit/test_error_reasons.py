"""Each reason of the contract has one gRPC code, in the services, the client and docs/errors.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import grpc
import pytest

from arena_llm.v1.error_pb2 import ErrorReason
from services.common import errors

ROOT = Path(__file__).parents[2]
PREFIX = "ERROR_REASON_"


def read_contract() -> dict[str, tuple[str, str]]:
    """Return the code and the comment of each reason in error.proto."""
    text = (ROOT / "proto/arena_llm/v1/error.proto").read_text()
    found = re.findall(rf"((?:  //.*\n)+)  {PREFIX}(\w+) = \d+;", text)
    comments = {
        name: " ".join(line.strip(" /") for line in comment.splitlines()) for comment, name in found
    }
    del comments["UNSPECIFIED"]
    return {name: (text.partition(":")[0], text) for name, text in comments.items()}


CONTRACT = read_contract()


def list_classes(kind: type[errors.BackendError]) -> list[type[errors.BackendError]]:
    return [kind, *(inner for sub in kind.__subclasses__() for inner in list_classes(sub))]


def test_every_reason_has_a_known_code() -> None:
    assert {PREFIX + name for name in CONTRACT} | {PREFIX + "UNSPECIFIED"} == set(
        ErrorReason.keys()
    )
    for code, _ in CONTRACT.values():
        assert code in grpc.StatusCode.__members__


@pytest.mark.parametrize("kind", list_classes(errors.BackendError))
def test_an_error_of_the_services_has_the_code_of_its_reason(
    kind: type[errors.BackendError],
) -> None:
    assert CONTRACT[kind.reason][0] == kind.code.name


def test_the_services_can_raise_every_reason_that_the_client_does_not_make() -> None:
    ours = {kind.reason for kind in list_classes(errors.BackendError)}
    made_by_the_client = {name for name, (_, text) in CONTRACT.items() if "Made by the" in text}
    assert ours | made_by_the_client | {"CANCELLED"} == set(CONTRACT)
    assert not ours & made_by_the_client


def test_the_client_uses_reasons_of_the_contract_only() -> None:
    for path in (ROOT / "client/src/arena_llm").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "reason":
                for value in ast.walk(node.value):
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        assert value.value in CONTRACT, path


def test_the_table_lists_every_reason_once_with_its_code() -> None:
    text = (ROOT / "docs/errors.md").read_text()
    rows = re.findall(r"^\| ([A-Z_]+) \| ([A-Z_]+) \| \S.* \|$", text, re.M)
    assert dict(rows) == {name: code for name, (code, _) in CONTRACT.items()}
    assert len(rows) == len(CONTRACT)
