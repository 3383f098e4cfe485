"""Reads requests: the bytes of a call become a checked request of `arena_llm.types`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message as ProtoMessage

from arena_llm.types import CountRequest, GenerationRequest, ScoringRequest
from arena_llm.v1 import generate_pb2, score_pb2
from arena_llm.wire import from_message
from services.common.backend import BaseLLMBackend
from services.common.call import CallRecord
from services.common.errors import ModelNotFound
from services.common.fields import Refusals
from services.common.handlers import SMALL, Scan, parse_scanned, scan
from services.common.shared_calls import Request, digest_fields, digest_request
from services.common.unknown import check_known, refuse_unknown
from services.common.validation import MAX_NAME, check_count_tokens, check_generate, check_score

T = TypeVar("T")
M = TypeVar("M", bound=ProtoMessage)
R = TypeVar("R", generate_pb2.GenerateRequest, score_pb2.ScoreRequest)


class RequestReader:
    """Reads the requests for one backend, and refuses what it does not honour.

    shares: whether a request with an id may share its call with others.
    """

    def __init__(self, backend: BaseLLMBackend[Any], shares: bool) -> None:
        self.prefix = f"{backend.name}_"
        self.refusals = Refusals(backend)
        self._shares = shares

    async def read_generate(
        self, data: bytes, record: CallRecord, deadline: float | None
    ) -> tuple[GenerationRequest, bytes]:
        """Return the request, and its digest, which is empty if it cannot be shared.

        deadline: by time.monotonic(), or None.
        """
        return await _apply(self._read_generate, data, record, deadline)

    async def read_score(self, data: bytes, record: CallRecord) -> tuple[ScoringRequest, bytes]:
        """Return the request, and its digest, which is empty if it cannot be shared."""
        return await _apply(self._read_score, data, record)

    async def read_count(self, data: bytes, record: CallRecord) -> CountRequest:
        return await _apply(self._read_count, data, record)

    def check_prefix(self, model: str) -> None:
        """Raise ModelNotFound if the model belongs to another backend."""
        if not model.startswith(self.prefix):
            raise ModelNotFound(
                f"{model!r} is not a model of this service: its models start with {self.prefix!r}",
                field="model",
                metadata={"model": model[:MAX_NAME]},
            )

    def _read_generate(
        self, data: bytes, record: CallRecord, deadline: float | None
    ) -> tuple[GenerationRequest, bytes]:
        proto, has_id, found = self._begin(generate_pb2.GenerateRequest, data, record)
        check_generate(proto)
        self.check_prefix(proto.model)
        self.refusals.check_request(proto)
        request = from_message(proto, GenerationRequest, deadline=deadline)
        return request, self._digest(proto, data, found) if has_id else b""

    def _read_score(self, data: bytes, record: CallRecord) -> tuple[ScoringRequest, bytes]:
        proto, has_id, found = self._begin(score_pb2.ScoreRequest, data, record)
        check_score(proto)
        self.check_prefix(proto.model)
        self.refusals.check_score()
        self.refusals.check_request(proto)
        request = from_message(proto, ScoringRequest)
        return request, self._digest(proto, data, found) if has_id else b""

    def _begin(
        self, message_type: type[R], data: bytes, record: CallRecord
    ) -> tuple[R, bool, Scan | None]:
        """Return the parsed request, whether its caller gave it an id, and its scan."""
        proto, found = _parse(message_type, data)
        if not (has_id := bool(proto.request_id)):
            proto.request_id = secrets.token_hex(16)
        record.add_request(proto.model, proto.session, proto.labels, proto.request_id)
        _check_known(proto, data, found)
        return proto, has_id, found

    def _digest(self, proto: Request, data: bytes, found: Scan | None) -> bytes:
        if not self._shares:
            return b""
        return digest_fields(proto, data, found) if found else digest_request(proto)

    def _read_count(self, data: bytes, record: CallRecord) -> CountRequest:
        proto, found = _parse(score_pb2.CountTokensRequest, data)
        record.add_request(proto.model, "", {})
        _check_known(proto, data, found)
        check_count_tokens(proto)
        self.check_prefix(proto.model)
        self.refusals.check_count_tokens()
        self.refusals.check_request(proto)
        return from_message(proto, CountRequest)


async def _apply(read: Callable[..., T], data: bytes, *arguments: Any) -> T:
    """Read a request; a large one in another thread, so that other calls run."""
    if len(data) <= SMALL:
        return read(data, *arguments)
    return await asyncio.to_thread(read, data, *arguments)


def _parse(message_type: type[M], data: bytes) -> tuple[M, Scan | None]:
    """Parse a request. A large one is scanned first."""
    found = scan(message_type.DESCRIPTOR, data) if len(data) > SMALL else None
    return parse_scanned(message_type, data), found


def _check_known(proto: ProtoMessage, data: bytes, found: Scan | None) -> None:
    """Raise UnknownField for a field that the contract lacks."""
    if found is None:
        check_known(proto, data)
    elif found.unknown:
        path, _, number = found.unknown.rpartition(".")
        refuse_unknown(f"{path}." if path else "", int(number))
