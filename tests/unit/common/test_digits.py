"""Numbers in text that a caller has written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.common.digits import read_digits
from services.common.errors import InvalidRequest
from services.common.handlers import CONTRACT_HEADER, check_client
from services.common.hosted.schema import Schema

#: Text that is no number of ours, though some of it is made of digits.
NO_NUMBERS = ("", "x", "-1", "+1", " 1", "1.0", "1e9", "\u00b2", "\u0663", "9" * 13, "9" * 5_000)


def test_digits() -> None:
    assert [read_digits(text) for text in ("0", "007", "9" * 12)] == [0, 7, 10**12 - 1]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_number(text: str) -> None:
    assert read_digits(text) is None
    check_client(Caller(text))
    schema = {"anyOf": [{"type": "string"}], "properties": {"a": {"$ref": f"#/anyOf/{text}"}}}
    with pytest.raises(InvalidRequest):
        Schema(json.dumps(schema))


class Caller:
    """A call with this revision of the contract."""

    def __init__(self, revision: str) -> None:
        self._revision = revision

    def invocation_metadata(self) -> Any:
        return [(CONTRACT_HEADER, self._revision)]
