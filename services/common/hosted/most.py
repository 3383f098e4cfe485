"""The most that a request of unknown cost can have cost: its size times the model's price."""

from __future__ import annotations

from arena_llm.prices import find_most
from arena_llm.types import GenerationRequest, Image, Price
from arena_llm.v1 import generate_pb2
from arena_llm.wire import to_message
from services.common.hosted.request import as_conversation

#: Tokens that a chat template and a provider's prompt for tools add: for each message or tool, and
#: once for all.
_FOR_EACH, _FOR_ALL = 16, 1000
#: An instruction repeats the choices or the schema, escaped, and the stricter one repeats it again.
_REPEATED = 8


def find_most_paid(
    request: GenerationRequest, price: Price | None, most_output: int | None
) -> int | None:
    """Return the most that each request to a provider for this call can cost, in 10^-12 dollars.

    most_output: tokens, if the request does not bound them. None: not known.

    Counts a token for each byte of a prompt. None if it has images, whose tokens are not known.
    """
    messages = as_conversation(request.input)
    if any(isinstance(part, Image) for message in messages for part in message.parts):
        return None
    completion = request.sampling.max_tokens or most_output
    if completion is None:
        return find_most(price, 0, None)
    message = to_message(request, generate_pb2.GenerateRequest)
    prompt = message.ByteSize() + _FOR_EACH * (len(messages) + len(request.tools)) + _FOR_ALL
    if request.constraint is not None:  # the second request has the first reply
        prompt += _REPEATED * message.constraint.ByteSize() + completion
    return find_most(price, prompt, completion)
