"""The official client of OpenAI's API against the embedded model, through the gateway."""

from __future__ import annotations

import json
import math
from typing import Any

import checks
import openai
from openai import OpenAI

MODEL = "hf_smollm2-135m-instruct"
MESSAGES: Any = [{"role": "user", "content": "What is the capital of France?"}]


def make(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)


def ask(url: str, **options: Any) -> Any:
    return make(url).chat.completions.create(
        model=MODEL, messages=MESSAGES, **{"max_tokens": 12, "temperature": 0, **options}
    )


def check_a_seed_repeats(url: str) -> None:
    sampled = {"temperature": 1.5, "seed": 5}
    texts = [ask(url, **sampled).choices[0].message.content for _ in range(2)]
    assert texts[0] == texts[1]
    several = [choice.message.content for choice in ask(url, n=2, **sampled).choices]
    assert several[0] == texts[0]
    assert several[0] != several[1]


def check_a_stream_has_the_text_and_the_tokens_of_the_whole_answer(url: str) -> None:
    whole = ask(url, logprobs=True, top_logprobs=2).choices[0]
    chunks = list(ask(url, logprobs=True, top_logprobs=2, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.message.content
    streamed = [t for c in chunks if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert [t.token for t in streamed] == [t.token for t in whole.logprobs.content]
    assert "".join(t.token for t in streamed).startswith(whole.message.content)
    for token in whole.logprobs.content:
        assert token.top_logprobs[0].logprob >= token.logprob - 1e-6


def check_constraints(url: str) -> None:
    choices = {"guided_choice": ["Paris", "Rome"]}
    assert ask(url, extra_body=choices).choices[0].message.content in ("Paris", "Rome")
    pattern = {"structured_outputs": {"regex": "[0-9]{3}"}}
    assert len(ask(url, extra_body=pattern).choices[0].message.content) == 3
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    named: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    text = ask(url, response_format=named, max_tokens=30).choices[0].message.content
    assert json.loads(text)["city"] in ("Paris", "Rome")


def check_a_prompt_is_scored(url: str) -> None:
    create = make(url).completions.create
    prompt = "The capital of France is Paris"
    (choice,) = create(model=MODEL, prompt=prompt, echo=True, logprobs=1, max_tokens=0).choices
    assert choice.text == prompt
    assert "".join(choice.logprobs.tokens) == prompt
    for offset, token in zip(choice.logprobs.text_offset, choice.logprobs.tokens, strict=True):
        assert prompt[offset:].startswith(token)
    first, *rest = choice.logprobs.token_logprobs
    assert first is None
    assert all(math.isfinite(value) and value <= 0 for value in rest)
    (longer,) = create(model=MODEL, prompt=prompt, echo=True, logprobs=1, max_tokens=2).choices
    assert longer.logprobs.token_logprobs[1 : 1 + len(rest)] == rest
    assert len(longer.logprobs.tokens) == len(rest) + 3


def check_what_the_model_cannot_do_is_refused_by_its_name(url: str) -> None:
    try:
        ask(url, tools=[{"type": "function", "function": {"name": "a"}}], tool_choice="required")
    except openai.BadRequestError as error:
        assert error.param and error.param.startswith("tool")
    image = [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]
    try:
        make(url).chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": image}]
        )
    except openai.BadRequestError as error:
        assert error.param.startswith("messages[0].content[0]"), error.param
    else:
        raise AssertionError("not refused")


if __name__ == "__main__":
    checks.run(globals(), f"openai {openai.__version__}")
