"""A model that reads images, on vLLM's real engine."""

from __future__ import annotations

from typing import Any

import pytest

from arena_llm import Client
from arena_llm.errors import ArenaError
from arena_llm.types import (
    Capability,
    Completion,
    Conversation,
    Image,
    ImageDetail,
    Message,
    Modality,
    Part,
    Text,
    ToolCall,
    ToolResult,
)
from tests.integration.local.conftest import THINKER, VIEWER
from tests.support.image_models import IMAGE_TOKENS, make_png

RED, BLUE = (Image(make_png(color), "image/png") for color in ((255, 0, 0), (0, 0, 255)))


def show(*parts: Part) -> Conversation:
    """A conversation of one user message."""
    return Conversation((Message("user", parts),))


def view(known_llm: Client, *parts: Part, **options: Any) -> Completion:
    """The viewer's greedy reply to a message with its log-probabilities."""
    options = {"max_tokens": 8, "temperature": 0, "token_ids": True, **options}
    return known_llm.generate(VIEWER, messages=show(*parts), **options)


def test_an_image_is_a_part_of_the_prompt(known_llm: Client) -> None:
    plain = view(known_llm, Text("What is it?"))
    red, blue = (view(known_llm, image, Text("What is it?")) for image in (RED, BLUE))
    assert plain.usage.image_tokens in (None, 0)
    assert red.usage.image_tokens == blue.usage.image_tokens == IMAGE_TOKENS
    # One more: a word after an image begins with a space.
    assert red.usage.prompt_tokens == (plain.usage.prompt_tokens or 0) + IMAGE_TOKENS + 1
    assert red.prompt_tokens == blue.prompt_tokens
    assert red.text != blue.text
    assert view(known_llm, RED, Text("What is it?")).text == red.text


def test_images_stand_where_they_were_sent(known_llm: Client) -> None:
    reply = view(known_llm, Text("First:"), RED, Text("then:"), BLUE, raw_text=True)
    assert reply.usage.image_tokens == 2 * IMAGE_TOKENS
    assert reply.prompt_tokens is not None
    first, _, rest = reply.prompt_tokens.raw_text.partition("<fake_token_around_image>")
    assert first.endswith("First:")
    assert "then:" in rest
    assert reply.text != view(known_llm, Text("First:"), BLUE, Text("then:"), RED).text


def test_a_stream_about_an_image(known_llm: Client) -> None:
    messages = show(RED, Text("What is it?"))
    stream = known_llm.stream(VIEWER, messages=messages, max_tokens=8, temperature=0)
    assert "".join(stream) == view(known_llm, RED, Text("What is it?")).text
    assert stream.completion.usage.image_tokens == IMAGE_TOKENS


def test_images_are_counted_and_scored(known_llm: Client) -> None:
    prompts = [show(image, Text("What is it?")) for image in (RED, BLUE)]
    count = known_llm.count_tokens(VIEWER, messages=prompts[0], return_tokens=True)
    assert count.trace == view(known_llm, RED, Text("What is it?"), raw_text=True).prompt_tokens
    red, blue = (
        known_llm.score(VIEWER, None, ["red", "re"], messages=prompt) for prompt in prompts
    )
    assert red.usage.image_tokens == IMAGE_TOKENS
    assert red[0].logprob < red[1].logprob
    assert red[1].logprob != pytest.approx(blue[1].logprob, abs=1e-3)
    assert known_llm.score(VIEWER, None, ["re"], messages=prompts[0])[0].logprob == pytest.approx(
        red[1].logprob
    )


def test_the_model_says_that_it_reads_images(known_llm: Client) -> None:
    models = {model.name: model for model in known_llm.list_models()}
    for name, reads in ((VIEWER, True), (THINKER, False)):
        model = models[name]
        assert (Capability.IMAGES in model.capabilities) == reads
        assert (Modality.IMAGE in model.input_modalities) == reads
        assert ("conversation.messages.parts.image.data" in model.supported_fields) == reads


PLACE = "conversation.messages[0].parts[1].image"
LARGE = make_png((0, 0, 0), 10_001, 10_000)
INVALID, UNSUPPORTED = "INVALID_REQUEST", "UNSUPPORTED"
BAD_IMAGES = {
    "no image": (Image(b"junk", "image/png"), f"{PLACE}.data", INVALID),
    "cut off": (Image((RED.data or b"")[:50], "image/png"), f"{PLACE}.data", INVALID),
    "another file": (Image(b"%PDF-1.7\n", "image/png"), f"{PLACE}.data", INVALID),
    "a program": (Image(b"%!PS-Adobe-3.0 EPSF-3.0\n", "image/eps"), f"{PLACE}.data", INVALID),
    "too large": (Image(LARGE, "image/png"), f"{PLACE}.data", INVALID),
    "a url": (Image(url="https://127.0.0.1/a.png"), f"{PLACE}.url", UNSUPPORTED),
    "a detail": (
        Image(RED.data, "image/png", detail=ImageDetail.LOW),
        f"{PLACE}.detail",
        UNSUPPORTED,
    ),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_a_bad_image_is_refused_with_its_place(known_llm: Client, case: str) -> None:
    image, field, reason = BAD_IMAGES[case]
    with pytest.raises(ArenaError) as caught:
        view(known_llm, Text("Look:"), image)
    assert (caught.value.reason, caught.value.field) == (reason, field)


def test_too_many_images_are_refused(known_llm: Client) -> None:
    with pytest.raises(ArenaError, match="at most 2 images") as caught:
        view(known_llm, RED, RED, BLUE)
    assert caught.value.field == "conversation.messages[0].parts[2].image"


def test_an_image_that_no_model_would_see_is_refused(known_llm: Client) -> None:
    with pytest.raises(ArenaError, match="reads text only") as caught:
        known_llm.generate(THINKER, messages=show(Text("Look:"), RED))
    assert (caught.value.reason, caught.value.field) == ("UNSUPPORTED", PLACE)
    called = Message("assistant", (ToolCall("1", "look", "{}"),))
    result = Message("tool", (ToolResult("1", (RED,)),))
    with pytest.raises(ArenaError) as caught:
        known_llm.generate(VIEWER, messages=[Message("user", "Look"), called, result])
    assert caught.value.reason == "UNSUPPORTED"
    assert caught.value.field.startswith("conversation.messages[")


@pytest.mark.parametrize("options", [{"boundary": "joined"}, {"prompt_logprobs": True}], ids=str)
def test_what_images_cannot_be_combined_with(known_llm: Client, options: dict[str, Any]) -> None:
    with pytest.raises(ArenaError, match="cannot be used with images") as caught:
        known_llm.score(VIEWER, None, ["a"], messages=show(RED), **options)
    assert caught.value.field in options
