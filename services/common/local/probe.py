"""A short prompt that every model must be able to read, to test it with when it has loaded."""

from __future__ import annotations

from collections.abc import Iterator

from arena_llm.types import Conversation, Input, Message
from services.common.errors import BackendError, ModelMisconfigured
from services.common.local.request import PromptReader

#: A chat model must be able to read one of them: some templates need a system message, others
#: refuse it.
_CONVERSATIONS: tuple[tuple[Message, ...], ...] = (
    (Message("user", "Hello"),),
    (Message("system", "Be brief."), Message("user", "Hello")),
)

#: Tokens of a prompt that is made of the model's vocabulary.
_TOKENS = 8


def make_test_prompt(reader: PromptReader) -> list[int]:
    """The tokens of a short input.

    Raises ModelMisconfigured if the model can read no test input.
    """
    errors: list[BackendError] = []
    for test_input in _list_inputs(reader):
        try:
            tokens = reader.read(test_input)
            reader.check_room(test_input, len(tokens), 1, "config.max_tokens")
            return tokens
        except BackendError as error:
            errors.append(error)
    why, cause = errors[0].message, str(errors[0].__cause__ or "")
    if cause not in why:  # a caller's error leaves it out, because it may repeat the prompt
        why += f": {' '.join(cause.split())[:300]}"
    kind = "prompt" if reader.template is None else "conversation"
    raise ModelMisconfigured(
        f"{reader.name} cannot read a test {kind}: {why}; "
        "use the chat template and the tokenizer that belong to the model"
    ) from errors[0]


def _list_inputs(reader: PromptReader) -> Iterator[Input]:
    if reader.template is not None:
        yield from map(Conversation, _CONVERSATIONS)
        return
    yield "Hello"
    # The vocabulary may have no letters, only digits or moves.
    vocabulary = sorted(reader.tokenizer.get_vocab().values())
    added = set(reader.tokenizer.get_added_vocab().values())
    readable = [token for token in vocabulary if token < reader.embedded and token not in added]
    yield reader.tokenizer.decode(readable[:_TOKENS])
