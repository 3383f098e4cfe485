"""Requests that are hostile by their bytes, their metadata or one of their fields."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from arena_llm.types import PARAMETERS_BY_PATH
from arena_llm.v1 import generate_pb2, models_pb2, reply_pb2, score_pb2, service_info_pb2
from tests.support.fields import EXAMPLES, make_field_request, name_field
from tests.torture.providers import expected_text, new_mark
from tests.torture.system import TOKENS

#: Method -> its reply.
REPLIES: dict[str, Any] = {
    "Generate": reply_pb2.GenerateResponse,
    "StreamGenerate": generate_pb2.StreamGenerateResponse,
    "Score": score_pb2.ScoreResponse,
    "CountTokens": score_pb2.CountTokensResponse,
    "IsAvailable": models_pb2.IsAvailableResponse,
    "ListModels": models_pb2.ListModelsResponse,
    "GetServiceInfo": service_info_pb2.GetServiceInfoResponse,
}
#: Reasons by which a service refuses a request for what it holds.
REFUSED = frozenset(
    (
        *("INVALID_REQUEST", "UNKNOWN_FIELD", "UNSUPPORTED", "TOO_LARGE", "CONTEXT_TOO_LONG"),
        *("MODEL_NOT_FOUND", "UNKNOWN_PREFIX", "CONSTRAINT_NOT_MET", "STATE_MISMATCH"),
        *("MODEL_MISCONFIGURED", "REQUEST_ID_REUSED", "RATE_LIMITED", "OVERLOADED"),
    )
)
Metadata = Sequence[tuple[str, str | bytes]]


class Request(NamedTuple):
    """Bytes to a method. text: the honest answer. reasons: of the errors that are right.

    field: what an INVALID_REQUEST must name. must_fail: no reply is right.
    """

    name: str
    method: str
    data: bytes
    text: str = ""
    reasons: frozenset[str] = REFUSED
    field: str = ""
    must_fail: bool = False
    metadata: Metadata = ()
    timeout: float | None = 60
    token: str = TOKENS["lab"]
    compression: Any = None


def plain(
    dice: random.Random, model: str, **fields: Any
) -> tuple[generate_pb2.GenerateRequest, str]:
    """A request that a provider answers, and the text of its answer."""
    mark = new_mark(dice)
    prompt = f"Please repeat: {mark}"
    request = generate_pb2.GenerateRequest(model=model, prompt=prompt, **fields)
    request.config.max_tokens = 20
    return request, expected_text(mark)


def pick_method(dice: random.Random) -> str:
    """One of the methods that generate."""
    return dice.choice(["Generate", "StreamGenerate"])


def noise(dice: random.Random, model: str) -> Request:
    """Bytes that are no message."""
    size = dice.choice([1, 10, 100, 5_000, 100_000])
    data = dice.randbytes(size)
    if dice.random() < 0.3:
        data = b"\x0b" * size  # groups in groups
    return Request("noise", dice.choice(list(REPLIES)), data)


def mutation(dice: random.Random, model: str) -> Request:
    """A request for some field, with some bytes changed."""
    request = make_field_request(dice.choice(list(EXAMPLES)), model)
    data = bytearray(request.SerializeToString())
    for _ in range(dice.choice([1, 1, 2, 8])):
        place = dice.randrange(len(data))
        match dice.randrange(4):
            case 0:
                data[place] = dice.randrange(256)
            case 1:
                del data[place : place + dice.randrange(1, 9)]
            case 2:
                data[place:place] = dice.randbytes(dice.randrange(1, 9))
            case 3:
                data += data[: dice.randrange(len(data))]
        if not data:
            break
    # The name of the model may have become one of a provider that does not run here.
    reasons = REFUSED | {"UPSTREAM_UNAVAILABLE"}
    return Request("mutated bytes", pick_method(dice), bytes(data), reasons=reasons)


def field(dice: random.Random, model: str) -> Request:
    """One field of the contract: it is honoured, or refused by its name."""
    path = dice.choice(list(EXAMPLES))
    data = make_field_request(path, model).SerializeToString()
    return Request(f"field {path}", pick_method(dice), data, field=name_field(path))


def out_of_range(dice: random.Random, model: str) -> Request:
    """A parameter beyond its range is refused by its name."""
    paths = [p for p in PARAMETERS_BY_PATH.values() if p.path.startswith("config.")]
    parameter = dice.choice(paths)
    request, _ = plain(dice, model)
    name = parameter.path.partition(".")[2]
    values: list[Any] = [-1, 2**31 - 1, -(2**31), math.nan, math.inf, -math.inf, 1e300, 0]
    wrong = [value for value in values if _is_wrong(parameter, value)]
    if parameter.max_items or not wrong:
        if not parameter.max_items or parameter.keyed or parameter.type is not str:
            return out_of_range(dice, model)
        getattr(request.config, name).extend(["x"] * (parameter.max_items + 1))
    else:
        value = dice.choice(wrong)
        try:
            setattr(request.config, name, value)
        except (TypeError, ValueError, OverflowError):
            return out_of_range(dice, model)
    reasons = frozenset(("INVALID_REQUEST", "UNSUPPORTED"))
    return Request(
        f"out of range {parameter.path}", pick_method(dice), request.SerializeToString(),
        reasons=reasons, field=parameter.path, must_fail=True,
    )  # fmt: skip


def _is_wrong(parameter: Any, value: Any) -> bool:
    if parameter.max_items or parameter.type not in (int, float):
        return False
    if parameter.type is int and isinstance(value, float):
        return False
    return bool(parameter.problem(value))


_DIGITS = ("0", "-1", "1", "9" * 20, "9" * 5_000, "1e9", " 1 ", "0x1", "", "true", "+5")
_HEADERS = (
    *("arena-contract", "arena-hops", "arena-remaining-ms", "arena-session", "arena-model"),
    *("traceparent", "tracestate", "baggage", "x-request-id", "arena-replica", "arena-waits"),
    *("application", "multiplexed_model_id", "user-agent-x", "grpc-previous-rpc-attempts-x"),
)
_TRACES = (
    "00-" + "0" * 32 + "-" + "0" * 16 + "-01",
    "00-" + "f" * 32 + "-" + "e" * 16 + "-01",
    "ff-x",
)
#: The router may find that a call has passed too many routers, or that its client is too old.
#: gRPC itself refuses more than 8 KB, without a reason.
_BY_HEADER = REFUSED | {"", "ROUTE_LOOP", "CLIENT_TOO_OLD", "DEADLINE_EXCEEDED"}


def headers(dice: random.Random, model: str) -> Request:
    """Metadata that means something to the router or a service, with odd values."""
    request, text = plain(dice, model)
    values = (*_DIGITS, *_TRACES, "s" * 4_000, "a=b,c=d", "../..", "%00")
    metadata: list[tuple[str, str | bytes]] = [
        (dice.choice(_HEADERS), dice.choice(values)) for _ in range(dice.randint(1, 3))
    ]
    if dice.random() < 0.2:
        metadata.append(("grpc-status-details-bin", dice.randbytes(50)))
    return Request(
        "metadata",
        pick_method(dice),
        request.SerializeToString(),
        text,
        _BY_HEADER,
        metadata=metadata,
    )


def tokens(dice: random.Random, model: str) -> Request:
    """No token, or one that nobody has."""
    request, _ = plain(dice, model)
    wrong = dice.choice(["", "x", TOKENS["lab"][:-1], TOKENS["lab"] + "0", "t" * 5_000, "a b"])
    reasons = frozenset(("TOKEN_MISSING", "TOKEN_REJECTED"))
    return Request(
        "a wrong token", dice.choice(list(REPLIES)), request.SerializeToString(), reasons=reasons,
        must_fail=True, token=wrong,
    )  # fmt: skip


def deadline(dice: random.Random, model: str) -> Request:
    """A deadline that has passed, one of microseconds, one of days."""
    request, text = plain(dice, model)
    seconds = dice.choice([0.0, 1e-6, 1e-3, 0.005, 0.02, 86_400 * 30, 1e8, None])
    reasons = frozenset(("DEADLINE_EXCEEDED", "RATE_LIMITED"))
    return Request(
        "a deadline", pick_method(dice), request.SerializeToString(), text, reasons, timeout=seconds
    )


def strange(dice: random.Random, model: str) -> Request:
    """A name of no model, a method that does not exist, text that is not UTF-8."""
    request, text = plain(dice, model)
    match dice.randrange(4):
        case 0:
            names = ("", " ", "_", "nobody_x", "openrouter_", "hf_../../etc/passwd", "litellm_",
                     "\x00",
                     "litellm_ollama/x", "litellm_huggingface/a/b", "openrouter_a/plain\n", "😀_x",
                     "openrouter_not/listed", "litellm_openai/../x", "hf_nothing")  # fmt: skip
            request.model = dice.choice(names)
            reasons = REFUSED | {"API_KEY_MISSING"}
            data = request.SerializeToString()
            return Request("a model's name", pick_method(dice), data, "\x00any", reasons)
        case 1:
            data = request.SerializeToString()
            return Request(
                "an unknown method", "Nothing", data, must_fail=True, reasons=frozenset(("",))
            )
        case 2:
            data = request.SerializeToString().replace(b"Please", b"\xff\xfe\xed\xa0\x80a")
            return Request("no UTF-8", pick_method(dice), data, must_fail=True)
        case _:
            request.prompt += dice.choice(
                ["\x00", "\u202e", "\ufeff", "\U0010ffff", "a\u0300" * 500]
            )
            return Request("odd characters", pick_method(dice), request.SerializeToString(), text)


def local(dice: random.Random, model: str) -> Request:
    """Scoring and counting tokens, which only local models can do."""
    many = dice.choice([1, 3, 5_000])
    values = [{"text": dice.choice(["a", " b", "", "x" * 10_000, "😀"])} for _ in range(many)]
    if dice.random() < 0.5:
        request = score_pb2.ScoreRequest(model=model, prompt="ab", continuations=values)
        request.top_logprobs = dice.choice([0, 0, 5, 10**6])
        return Request("scores", "Score", request.SerializeToString())
    count = score_pb2.CountTokensRequest(model=model, prompt="x" * dice.choice([1, 10**5]))
    return Request("counts", "CountTokens", count.SerializeToString())


#: All of them; some more often than others.
MAKERS = (
    *(noise, mutation, mutation, mutation, field, field, out_of_range, headers, headers),
    *(tokens, deadline, strange, local),
)
