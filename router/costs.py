"""What a request can cost, for a call whose backend or whose caller has gone.

Only for such a call does the router request the price from the backend.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from google.protobuf.message import DecodeError

from arena_llm.prices import find_most as find_most_of_tokens
from arena_llm.types import FreePrice, GenerationRequest, Input, Model, RawPrompt, Text
from arena_llm.v1 import generate_pb2, models_pb2
from arena_llm.wire import from_message
from router.reply import Paid
from services.common.hosted.most import find_most_paid
from services.common.hosted.request import as_conversation

#: The part of a provider's own options that only chooses who answers. Others may buy more.
_CHOOSES = frozenset(("provider",))
#: The end of a model's name that buys a search of the web.
_SEARCHES = ":online"
#: A token of usual text has about so many bytes.
_BYTES_OF_TOKEN = 4
#: Seconds in which a backend must name a price for the quotas. No caller waits for it.
_ASK_SECONDS = 5.0

#: Asks a model's backend about the model. Arguments: its name, and the seconds to wait. Returns
#: None without an answer.
Ask = Callable[[str, float], Awaitable[models_pb2.ModelInfo | None]]


class RequestCosts:
    """What one request can cost. ask: see Ask. seconds: returns how long its caller still waits."""

    __slots__ = ("_ask", "_data", "_model", "_seconds")

    def __init__(self, ask: Ask, model: str, data: bytes, seconds: Callable[[], float]) -> None:
        self._ask = ask
        self._model = model
        self._data = data
        self._seconds = seconds

    async def find_most(self) -> int | None:
        """Return the most that the request can cost, see `find_most`."""
        seconds = self._seconds()
        model = await self._ask(self._model, seconds) if seconds > 0 else None
        return await asyncio.to_thread(find_most, self._data, model)

    async def estimate_left(self, tokens: int, attempts: int) -> Paid:
        """Return what the request counts for quotas if its caller has left, see `estimate_left`."""
        model = await self._ask(self._model, _ASK_SECONDS)
        return await asyncio.to_thread(estimate_left, self._data, model, tokens, attempts)


def find_most(data: bytes, info: models_pb2.ModelInfo | None) -> int | None:
    """Return the most that a request for a model can cost, in 10^-12 US dollars; None: not known.

    data: the request. info: the model, as its backend describes it; None: that is not known.
    """
    if info is None or info.name.endswith(_SEARCHES):
        return None
    request = _read(data)
    if request is None or request.provider_options.keys() - _CHOOSES:
        return None
    if isinstance(request.input, RawPrompt):  # only backends that cost nothing take it
        return None
    try:
        model = from_message(info, Model)
        return find_most_paid(request, model.price, model.max_output_tokens)
    except (ValueError, KeyError):  # such as JSON that cannot be written again
        return None


def estimate_left(
    data: bytes, info: models_pb2.ModelInfo | None, tokens: int, attempts: int
) -> Paid:
    """Return what a call counts for quotas if its caller left before the usage was known.

    data, info: as for `find_most`. tokens: of the answer, as far as it has come. attempts: requests
    of unknown cost. Each counts the most that it can cost. If that is not known either, it counts
    the price of its tokens, without other things that the request may buy.
    """
    request = _read(data)
    try:
        model = None if info is None else from_message(info, Model)
    except (ValueError, KeyError):
        model = None
    if request is None:
        return Paid(tokens, 0)
    prompt = _estimate_prompt(request.input)
    most = find_most(data, info)
    if most is None and model is not None and model.price is not None:
        if isinstance(model.price, FreePrice):
            most = 0
        else:
            bounds = (request.sampling.max_tokens, model.max_output_tokens, model.context_length)
            completion = next((bound for bound in bounds if bound), tokens)
            most = find_most_of_tokens(model.price, prompt, completion)
    return Paid(prompt + tokens, attempts * (most or 0))


def _read(data: bytes) -> GenerationRequest | None:
    """Return the request; None if backends refuse it: it cannot be read, or has no prompt."""
    try:
        message = generate_pb2.GenerateRequest.FromString(data)
        request = from_message(message, GenerationRequest)
    except (DecodeError, ValueError, KeyError):
        return None
    return None if request.input is None else request


def _estimate_prompt(prompt: Input) -> int:
    """Return about how many tokens a prompt has."""
    if isinstance(prompt, RawPrompt):
        if prompt.token_ids is not None:
            return len(prompt.token_ids)
        prompt = prompt.text or ""
    parts = (part for each in as_conversation(prompt) for part in each.parts)
    size = sum(len(part.text.encode()) for part in parts if isinstance(part, Text))
    return size // _BYTES_OF_TOKEN + 1
