"""One RPC as a value: what both clients send, and how they read its reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.message import Message

T = TypeVar("T")


class Call(NamedTuple, Generic[T]):
    """One RPC, ready to be sent, and the way from its reply to what is returned."""

    method: str
    request: Message
    convert: Callable[[Any], T]
    model: str = ""
    session: str = ""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """For proxies that route and hash without reading bodies."""
        pairs = (("arena-model", self.model), ("arena-session", self.session))
        return tuple((key, value) for key, value in pairs if _legal_metadata(value))


def _legal_metadata(value: str) -> bool:
    """Printable ASCII that fits a header; the service reads the body for the rest."""
    return (
        0 < len(value) <= 1024
        and value.isascii()
        and value.isprintable()
        and value == value.strip()
    )
