"""The bytes of tokens are what the tokenizer's own decoder writes, for every kind of tokenizer."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest

from services.common.local.encoding import PromptEncoder
from services.common.local.vocabulary import Vocabulary
from services.common.local.writing import CompletionEncoder, UnwritableError
from tests.support.tokenizers import KINDS, make_tokenizer

#: What a game or a program may have to write.
TEXTS = [
    "0", "left corner", "Yes", " 0", "    return 7", "if x:\n    return 7", "playing", "x",
    "left", "It's", "Yes or no?", "é", "日本", "a<|im_end|>", "<unk>", "!", "  ", "\n", "##ing",
    "\u2581", "</w>",
]  # fmt: skip
#: Kinds that can write every text.
COMPLETE = ("byte level", "byte level, prefix", "sentencepiece, prefix", "sentencepiece")

tokenizer = cache(make_tokenizer)


@cache
def vocabulary(kind: str) -> Vocabulary:
    return Vocabulary(tokenizer(kind))


def encoder(kind: str, *, spaced: bool | None = None) -> CompletionEncoder:
    known = vocabulary(kind)
    prompts = PromptEncoder(tokenizer(kind))
    spaced = known.spaced if spaced is None else spaced
    return CompletionEncoder(tokenizer(kind), prompts, known, spaced=spaced)


def decode(kind: str, ids: list[int]) -> str:
    return str(tokenizer(kind).decode(ids, skip_special_tokens=True))


def written(kind: str, ids: list[int]) -> str:
    known = vocabulary(kind)
    return known.completion_bytes(ids, spaced=known.spaced).decode(errors="replace")


@pytest.mark.parametrize("kind", KINDS)
def test_a_completion_is_what_the_decoder_writes(kind: str) -> None:
    draw = random.Random(1)  # noqa: S311
    bytewise = {token for name, token in tokenizer(kind).get_vocab().items() if "<0x" in name}
    tokens = [token for token in range(len(tokenizer(kind))) if token not in bytewise]
    for _ in range(300):
        ids = draw.choices(tokens, k=draw.randint(1, 9))
        if not continues_word(*first_words(kind, ids)):
            assert written(kind, ids) == decode(kind, ids), tokenizer(kind).convert_ids_to_tokens(
                ids
            )


def first_words(kind: str, ids: list[int]) -> list[str]:
    special = vocabulary(kind).special_ids
    return [str(tokenizer(kind).convert_ids_to_tokens(i)) for i in ids if i not in special][:1]


def continues_word(token: str = "") -> bool:
    """The decoder shows the mark of such a token if it is the first one."""
    return token.startswith("##")


def test_a_completion_may_begin_inside_a_word() -> None:
    known = tokenizer("wordpiece").get_vocab()
    token = next(token for name, token in known.items() if name.startswith("##"))
    assert "#" not in written("wordpiece", [token, known["left"]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["The board", "    return 7", "left corner.", "é日本"])
def test_what_the_tokenizer_reads_is_written_again(kind: str, text: str) -> None:
    ids = tokenizer(kind)(text, add_special_tokens=False).input_ids
    for begin in range(len(ids)):
        shown = written(kind, ids[begin:])
        # For a broken character the decoder of byte fallback writes one U+FFFD for each byte.
        if "\ufffd" not in shown and not continues_word(*first_words(kind, ids[begin:])):
            assert shown == decode(kind, ids[begin:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_the_tokens_of_a_text_write_it(kind: str, text: str) -> None:
    try:
        ids = encoder(kind).encode(text)
    except UnwritableError:
        assert kind not in COMPLETE
        return
    assert written(kind, ids) == text
    assert not {*ids} & {*vocabulary(kind).special_ids}
    assert decode(kind, ids) == text or continues_word(text)


@pytest.mark.parametrize("kind", COMPLETE)
@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_an_engine_that_keeps_the_first_space(kind: str, text: str) -> None:
    ids = encoder(kind, spaced=False).encode(text)
    assert b"".join(map(vocabulary(kind).token_bytes, ids)) == text.encode()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["0", "left corner", "Yes"])
def test_the_tokenizers_own_way_is_preferred(kind: str, text: str) -> None:
    ids = tokenizer(kind)(text, add_special_tokens=False).input_ids
    if decode(kind, ids) == text:
        assert encoder(kind).encode(text) == ids


def test_a_tokenizer_that_is_not_fast_is_refused() -> None:
    class Slow:
        pass

    slow: Any = Slow()
    with pytest.raises(ValueError, match="no fast tokenizer"):
        Vocabulary(slow)
