"""The official client of OpenAI's API against the gateway: each thing that a caller may send.

The model echo_model (tests/support/echo.py) shows what a request became.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import checks
import openai
from openai import AsyncOpenAI, OpenAI

MODEL = "echo_model"
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 24).decode()


def make(url: str, **options: Any) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, **options)


def ask(client: OpenAI, text: str = "describe", **options: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(model=MODEL, messages=messages, **options)


def describe(client: OpenAI, **options: Any) -> dict[str, Any]:
    """What the request became."""
    found: dict[str, Any] = json.loads(ask(client, **options).choices[0].message.content)
    return found


def refused(call: Any, kind: type[openai.APIStatusError], param: str | None) -> Any:
    try:
        call()
    except kind as error:
        assert error.param == param, (error.param, param)
        return error
    raise AssertionError("not refused")


def check_models(url: str) -> None:
    client = make(url)
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    refused(lambda: client.models.retrieve("none_x"), openai.NotFoundError, "model")


def check_sampling(url: str) -> None:
    sent = {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "stop": ["END", "STOP"],
        "max_tokens": 40,
        "logit_bias": {"7": -1.5},
    }
    vllm = {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "min_tokens": 2}
    became = describe(make(url), **sent, extra_body=vllm)
    assert became["sampling"] == {**sent, **vllm}
    assert became["model"] == MODEL
    assert describe(make(url), max_completion_tokens=9)["sampling"] == {"max_tokens": 9}
    assert "top_k" not in describe(make(url), extra_body={"top_k": -1}).get("sampling", {})
    assert describe(make(url), stop="END")["sampling"] == {"stop": ["END"]}
    assert describe(make(url), reasoning_effort="low")["reasoning"] == {"effort": "low"}


def check_hints(url: str) -> None:
    became = describe(make(url), user="me", metadata={"game": "go"}, prompt_cache_key="g1")
    assert became["labels"] == {"user": "me", "game": "go"}
    assert became["session"] == "g1"
    became = describe(make(url), extra_headers={"arena-session": "g2"})
    assert became["session"] == "g2"


def check_messages(url: str) -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                {"type": "image_url", "image_url": {"url": "https://e.org/a", "detail": "low"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "assistant", "content": "so"},
        {"role": "user", "content": "describe"},
    ]
    tools = [{"type": "function", "function": {"name": "f"}}]
    client = make(url)
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    system, user, call, result, said, _ = json.loads(answer.choices[0].message.content)["input"][
        "messages"
    ]
    assert system == {"role": "system", "parts": [{"kind": "text", "text": "be brief"}]}
    text, image, address = user["parts"]
    assert text["text"] == "look"
    assert (image["data"], image["media_type"]) == (PIXEL, "image/png")
    assert (address["url"], address["detail"]) == ("https://e.org/a", "low")
    assert call["parts"] == [{"kind": "tool_call", "id": "c1", "name": "f", "arguments": "{}"}]
    assert result["parts"][0]["call_id"] == "c1"
    assert said["parts"][0]["text"] == "so"
    # What came back can be sent again.
    again = [*messages, answer.choices[0].message.model_dump(), messages[-1]]
    client.chat.completions.create(model=MODEL, messages=again, tools=tools)
    bad = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]
    refused(
        lambda: client.chat.completions.create(model=MODEL, messages=bad),
        openai.BadRequestError,
        "messages[0].content[0].image_url.url",
    )


def check_tools(url: str) -> None:
    function = {"name": "play", "description": "a move", "parameters": {"type": "object"}}
    tools = [{"type": "function", "function": {**function, "strict": True}}]
    client = make(url)
    became = describe(client, tools=tools, tool_choice="auto", parallel_tool_calls=False)
    (tool,) = became["tools"]
    assert tool["name"] == "play"
    assert json.loads(tool["parameters_json_schema"]) == {"type": "object"}
    assert tool["strict"]
    assert became["tool_choice"]["mode"] == "auto"
    named = {"type": "function", "function": {"name": "play"}}
    became = describe(client, tools=tools, tool_choice=named)
    assert became["tool_choice"] == {"mode": "required", "names": ["play"]}
    (choice,) = ask(client, 'call play {"a": 1}', tools=tools).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    first, second = choice.message.tool_calls
    assert (first.id, first.function.name, first.function.arguments) == (
        "call_1", "play", '{"a": 1}',
    )  # fmt: skip
    assert second.id == "call_2"
    pieces: dict[int, str] = {}
    names = []
    for chunk in ask(client, 'call play {"a": 1}', tools=tools, stream=True):
        for piece in chunk.choices[0].delta.tool_calls or ():
            pieces[piece.index] = pieces.get(piece.index, "") + piece.function.arguments
            names += [piece.function.name] if piece.function.name else []
    assert pieces == {0: '{"a": 1}', 1: '{"a": 1}'}
    assert names == ["play", "play"]


def check_formats(url: str) -> None:
    client = make(url)
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    named = {"name": "move", "schema": schema, "strict": True}
    body = {"type": "json_schema", "json_schema": named}
    became = describe(client, response_format=body)["constraint"]
    assert became["name"] == "move"
    assert json.loads(became["schema"]) == schema
    assert describe(client, response_format={"type": "json_object"})["constraint"] == {
        "kind": "json_object"
    }
    for extra in ({"guided_json": schema}, {"structured_outputs": {"json": schema}}):
        became = describe(client, extra_body=extra)["constraint"]
        assert json.loads(became["schema"]) == schema
    for extra in ({"guided_regex": ".*"}, {"structured_outputs": {"regex": ".*"}}):
        assert describe(client, extra_body=extra)["constraint"]["pattern"] == ".*"
    for extra in ({"guided_choice": ["say", "x"]}, {"structured_outputs": {"choice": ["x"]}}):
        assert ask(client, "say x", extra_body=extra).choices[0].message.content == "x"
    both = {"guided_regex": "a", "guided_choice": ["a"]}
    refused(lambda: ask(client, extra_body=both), openai.BadRequestError, "guided_choice")


def check_logprobs(url: str) -> None:
    client = make(url)
    (choice,) = ask(client, "say a bc", logprobs=True, top_logprobs=2).choices
    assert [(token.token, token.logprob) for token in choice.logprobs.content] == [
        ("a", -0.5), (" bc", -0.5),
    ]  # fmt: skip
    assert bytes(choice.logprobs.content[1].bytes) == b" bc"
    assert [top.token for top in choice.logprobs.content[0].top_logprobs] == ["top0", "top1"]
    tokens = []
    for chunk in ask(client, "say a bc", logprobs=True, stream=True):
        if chunk.choices[0].logprobs:
            tokens += [token.token for token in chunk.choices[0].logprobs.content]
    assert tokens == ["a", " bc"], tokens
    refused(lambda: ask(client, top_logprobs=2), openai.BadRequestError, "top_logprobs")
    answer = ask(client, "say a bc", extra_body={"return_token_ids": True})
    assert answer.choices[0].token_ids == [0, 1]


def check_several_answers(url: str) -> None:
    client = make(url)
    answer = ask(client, n=3, seed=5)
    seeds = [json.loads(c.message.content)["sampling"]["seed"] for c in answer.choices]
    assert seeds == [5, 6, 7]
    assert answer.usage.prompt_tokens == 7
    texts = {0: "", 1: "", 2: ""}
    for chunk in ask(client, "say a b c", n=3, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == {0: "a b c", 1: "a b c", 2: "a b c"}


def check_streams(url: str) -> None:
    client = make(url)
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = list(ask(client, "say a b c", stream=True, stream_options=options))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].delta.content for c in chunks[:3]] == ["a", " b", " c"]
    assert [c.usage.completion_tokens for c in chunks[:3]] == [1, 2, 3]
    assert chunks[3].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 3
    assert len({chunk.id for chunk in chunks}) == 1
    assert [c.usage for c in ask(client, "say a", stream=True)] == [None, None]
    reasoned = ask(client, "think").choices[0].message
    assert (reasoned.reasoning_content, reasoned.content) == ("because", "so")
    refusal = ask(client, "refuse").choices[0].message
    assert (refusal.refusal, refusal.content) == ("I will not", None)
    with client.chat.completions.stream(
        model=MODEL, messages=[{"role": "user", "content": "say a b"}]
    ) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == "a b"


def check_completions(url: str) -> None:
    create = make(url).completions.create
    answer = create(model=MODEL, prompt=["say a b", "say c"], n=2, max_tokens=3, logprobs=1)
    assert [choice.text for choice in answer.choices] == ["a b", "a b", "c", "c"]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].logprobs.tokens == ["a", " b"]
    assert answer.choices[0].logprobs.text_offset == [0, 1]
    assert answer.usage.prompt_tokens == 14
    became = json.loads(create(model=MODEL, prompt=[1, 2, 3]).choices[0].text)
    assert became["input"] == {"token_ids": [1, 2, 3]}
    assert became["sampling"] == {"max_tokens": 16}
    chunks = list(create(model=MODEL, prompt="say a b", echo=True, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "say a ba b"
    assert create(model=MODEL, prompt="say x", echo=True).choices[0].text == "say xx"


def check_echo_with_logprobs_scores_the_prompt(url: str) -> None:
    create = make(url).completions.create
    (choice,) = create(model=MODEL, prompt="a b c", echo=True, logprobs=2, max_tokens=0).choices
    assert choice.text == "a b c"
    assert choice.logprobs.tokens == ["a", " b", " c"]
    assert choice.logprobs.token_logprobs == [None, -0.5, -0.5]
    assert choice.logprobs.top_logprobs == [None, *[{"top0": -0.5, "top1": -1.5}] * 2]
    assert choice.logprobs.text_offset == [0, 1, 3]
    (choice,) = create(model=MODEL, prompt="say x", echo=True, logprobs=1, max_tokens=1).choices
    assert choice.text == "say xx"
    assert choice.logprobs.tokens == ["say", " x", "x"]


def check_errors(url: str) -> None:
    client = make(url)
    error = refused(lambda: ask(client, temperature=-1), openai.BadRequestError, "temperature")
    assert "temperature must be" in error.message
    extra = {"ignore_eos": True}
    error = refused(lambda: ask(client, extra_body=extra), openai.BadRequestError, "ignore_eos")
    assert error.code == "unsupported_parameter"
    refused(lambda: ask(client, extra_body={"foo": 1}), openai.BadRequestError, "foo")
    refused(lambda: ask(client, n="x"), openai.BadRequestError, "n")
    error = refused(lambda: ask(client, "fail RateLimited"), openai.RateLimitError, None)
    assert error.response.headers["retry-after"] == "1"
    assert error.response.headers["retry-after-ms"] == "200"
    error = refused(lambda: ask(client, "fail ContextTooLong"), openai.BadRequestError, None)
    assert error.code == "context_length_exceeded"
    refused(lambda: ask(client, "fail ConstraintNotMet"), openai.UnprocessableEntityError, None)
    error = refused(lambda: ask(client, "fail ApiKeyMissing"), openai.APIStatusError, None)
    assert error.status_code == 424
    refused(lambda: ask(client, "fail UpstreamUnavailable"), openai.InternalServerError, None)
    refused(lambda: ask(client, "fail RateLimited", stream=True), openai.RateLimitError, None)
    call = lambda: client.embeddings.create(model=MODEL, input="x")  # noqa: E731
    refused(call, openai.NotFoundError, None)


def check_waiting_cures_a_rate_limit_and_nothing_repeats_what_it_does_not_cure(url: str) -> None:
    client = OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=1)
    begun = time.perf_counter()
    refused(lambda: ask(client, "fail RateLimited"), openai.RateLimitError, None)
    assert time.perf_counter() - begun > 0.19
    error = refused(lambda: ask(client, "fail RequestIdReused"), openai.ConflictError, None)
    assert error.request.headers["x-stainless-retry-count"] == "0"


def check_an_error_in_a_stream_is_an_event(url: str) -> None:
    pieces = []
    try:
        for chunk in ask(make(url), "break", stream=True):
            pieces.append(chunk.choices[0].delta.content)
    except openai.APIError as error:
        assert error.code == "upstream_unavailable", error.code
        assert "broke off" in error.message
    else:
        raise AssertionError("no error")
    assert pieces == ["break"]


def running(client: OpenAI) -> int:
    return int(ask(client, "running").choices[0].message.content)


def check_a_caller_that_leaves_ends_the_work(url: str) -> None:
    client = make(url)
    for options in ({}, {"stream": True}, {"n": 2}):
        try:
            ask(client.with_options(timeout=0.3), "hang", **options)
        except openai.APITimeoutError:
            pass
        else:
            raise AssertionError("no timeout")
        left = time.perf_counter()
        while running(client):
            assert time.perf_counter() - left < 5
        print(f"  the work ended {1e3 * (time.perf_counter() - left):.0f} ms later", options)


async def check_the_asynchronous_client(url: str) -> None:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:

        async def say(word: str) -> str:
            messages: Any = [{"role": "user", "content": f"say {word} b"}]
            stream = await client.chat.completions.create(
                model=MODEL, messages=messages, stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        words = [f"w{n}" for n in range(50)]
        assert await asyncio.gather(*map(say, words)) == [f"{word} b" for word in words]
        answer = await client.completions.create(model=MODEL, prompt="say a")
        assert answer.choices[0].text == "a"
        hanging = asyncio.create_task(
            client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "hang"}]
            )
        )
        client_now = make(url)
        while not await asyncio.to_thread(running, client_now):
            pass
        hanging.cancel()
        while await asyncio.to_thread(running, client_now):
            pass


if __name__ == "__main__":
    checks.run(globals(), f"openai {openai.__version__}")
