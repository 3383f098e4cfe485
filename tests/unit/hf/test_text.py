"""From token bytes to text: complete characters, no stop string, nothing lost."""

from __future__ import annotations

import random

import pytest

from services.hf.text import TextStream
from tests.unit.hf.conftest import Models

TEXTS = [
    "plain words",
    "é日本😀👨\u200d👩\u200d👧 e\u0301",
    "one\n\nEND two END",
    "aaab aaab",
    "STOSTOP ST",
    " leading and trailing ",
]
STOPS: list[tuple[str, ...]] = [
    (),
    ("END",),
    ("STOP", "TOP"),
    ("aab",),
    ("aaab ", "ab"),
    ("\u200d", "本😀"),
    ("never",),
    ("one", "ne\n"),
]


def cut_by_first_stop(text: str, stops: tuple[str, ...]) -> str:
    """The expected text: up to the start of the stop string that is complete first."""
    for end in range(1, len(text) + 1):
        begins = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if begins:
            return text[: min(begins)]
    return text


def cuts(data: bytes, seed: int) -> list[bytes]:
    """The bytes, split at random. Seed 0: into single bytes; seed 1: not split."""
    draw = random.Random(seed)  # noqa: S311
    pieces = []
    while data:
        length = {0: 1, 1: len(data)}.get(seed, draw.randint(1, 4))
        pieces.append(data[:length])
        data = data[length:]
    return pieces


@pytest.mark.parametrize("stops", STOPS, ids=repr)
@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_the_text_does_not_depend_on_token_boundaries(text: str, stops: tuple[str, ...]) -> None:
    expected = cut_by_first_stop(text, stops)
    for seed in range(12):
        stream = TextStream(stops)
        released = []
        for token in cuts(text.encode(), seed):
            released.append(stream.push(token))
            assert expected.startswith("".join(released)), "it shows what it should hold back"
            if stream.stop is not None:
                break
        released.append(stream.finish())
        assert "".join(released) == stream.text == expected
        assert (stream.stop is not None) == (expected != text)


def test_only_a_possible_stop_string_is_held_back() -> None:
    stream = TextStream(("STOP",))
    assert [stream.push(t) for t in (b"an", b" ST", b"ST", b"O", b"!", b"S")] == [
        "an", " ", "ST", "", "STO!", "",
    ]  # fmt: skip
    assert stream.finish() == "S"


def test_no_text_follows_a_stop_string() -> None:
    stream = TextStream(("|",))
    assert stream.push(b"a|b") == "a"
    assert (stream.push(b"c"), stream.finish(), stream.text) == ("", "", "a")


def test_an_incomplete_character_is_released_at_the_end() -> None:
    stream = TextStream()
    assert [stream.push(byte) for byte in (b"a", b"\xf0", b"\x9f")] == ["a", "", ""]
    assert stream.finish() == "\ufffd"


@pytest.mark.parametrize(
    ("pieces", "text"), [([b" a", b" b"], "a b"), ([b" ", b" a"], " a"), ([b"", b" a"], "a")]
)
def test_the_first_space_of_sentencepiece_is_removed(pieces: list[bytes], text: str) -> None:
    stream = TextStream(strip_space=True)
    for piece in pieces:
        stream.push(piece)
    stream.finish()
    assert stream.text == text


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_the_bytes_of_tokens_are_the_text(model: Models, name: str) -> None:
    loaded = model(name)
    text = "It's your turn: 0 1 2 or 8?" + ("" if name == "t5" else " é日本😀\n\t")
    ids = loaded.tokenizer(text, add_special_tokens=False).input_ids
    stream = TextStream(strip_space=loaded.vocabulary.spaced)
    for token in ids:
        stream.push(loaded.vocabulary.token_bytes(token))
    stream.finish()
    assert stream.text == text


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_special_tokens_and_padding_have_no_text(model: Models, name: str) -> None:
    vocabulary = model(name).vocabulary
    assert {vocabulary.token_bytes(token) for token in model(name).eos} == {b""}
    assert vocabulary.token_bytes(100_000) == b""
    assert len(vocabulary.special_ids) == 3
