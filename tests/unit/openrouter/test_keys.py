"""A key is in no log, no error, no reply: planted ones are looked for."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from arena_llm import ArenaError, AsyncClient
from services.openrouter.config import OpenRouterConfig
from tests.support.upstreams.answers import repeating
from tests.support.upstreams.openrouter import KEY, OpenRouterUpstream
from tests.support.upstreams.server import Call, Fault, Reply
from tests.unit.common.hosted.test_keys import UNSENDABLE
from tests.unit.openrouter.conftest import Start, call, failed

MODEL = "openrouter_a/plain"

#: A provider that repeats the key wherever it can.
CHATTY = [
    Fault(401, message=f"Incorrect API key provided: {KEY}"),
    Fault(400, message=f"Authorization: Bearer {KEY} is wrong", error={"code": KEY}),
    Fault(403, error={"metadata": {"raw": f'{{"key": "{KEY}"}}', "provider_name": KEY}}),
    Fault(403, error={"metadata": {"error_type": KEY, "reasons": [KEY]}}),
    Fault(401, message=f"You sent {KEY[:12]}****{KEY[-4:]}"),
    Fault(200, body=f'{{"choices": "{KEY}"}}'.encode()),
    Fault(502, body=KEY.encode(), content_type="text/html"),
    Fault(200, body=KEY.encode(), content_type="text/plain"),
    Fault(200, body=b"x", content_type=f"text/{KEY}"),
    Fault(400, message=f"Basic {base64.b64encode(f'user:{KEY}'.encode()).decode()}"),
]


async def drained(llm: AsyncClient) -> None:
    async for _ in llm.stream(MODEL, "the secret prompt"):
        pass


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
@pytest.mark.parametrize("fault", CHATTY, ids=range(len(CHATTY)))
async def test_a_provider_that_repeats_the_key(
    start: Start,
    upstream: OpenRouterUpstream,
    capfd: pytest.CaptureFixture[str],
    fault: Fault,
    streamed: bool,
) -> None:
    upstream.default = fault
    async with start(max_attempts=1) as llm:
        call = drained(llm) if streamed else llm.generate(MODEL, "the secret prompt")
        with pytest.raises(ArenaError) as caught:
            await call
    told = repr(caught.value) + str(caught.value) + repr(vars(caught.value))
    logged = "".join(capfd.readouterr())
    assert upstream.history[0].headers["Authorization"].endswith(KEY)
    for secret in (KEY, KEY[-8:], KEY[:12]):
        assert secret not in told
        assert secret not in logged
    assert "secret prompt" not in logged


async def test_nothing_of_it_in_what_goes_well(
    llm: AsyncClient, upstream: OpenRouterUpstream, capfd: pytest.CaptureFixture[str]
) -> None:
    upstream.key = 401, {"error": {"code": 401, "message": f"no user for {KEY}"}}
    told = [
        repr(await llm.generate(MODEL, "the secret prompt")),
        repr(await llm.is_available(MODEL)),
        repr(list(await llm.list_models())),
    ]
    upstream.enqueue(Reply("The answer"))
    told += [delta async for delta in llm.stream(MODEL, "the secret prompt")]
    logged = "".join(capfd.readouterr())
    assert "call" in logged
    for text in (*told, logged):
        assert KEY not in text
        assert "secret prompt" not in text


class Open(OpenRouterUpstream):
    """One that takes every key."""

    async def special(self, call: Call) -> web.StreamResponse | None:
        return None if call.path.endswith("/completions") else await super().special(call)


@pytest.fixture
async def unlocked() -> AsyncIterator[Open]:
    async with Open() as server:
        yield server


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
@pytest.mark.parametrize("form", ["  {} ", "{}\r\n", '"{}"'])
async def test_a_key_with_blanks_around_it(
    start: Start, unlocked: Open, form: str, streamed: bool
) -> None:
    """It is sent without them, and what the provider repeats of it is hidden."""
    key = form.format("m12345678")  # unlike any key of a known shape
    async with start(key=key, base_url=unlocked.url, max_attempts=1) as llm:
        unlocked.enqueue(Fault(401, "no such key: m12345678"))
        error = await failed(llm, streamed)
    assert unlocked.history[0].headers["Authorization"] == "Bearer m12345678"
    assert "m12345678" not in f"{error!r} {error.message} {error.metadata}"


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_no_error_repeats_a_key_of_an_answer(
    start: Start, unlocked: Open, streamed: bool
) -> None:
    key = "m12345678"
    async with start(key=key, base_url=unlocked.url) as llm:
        for name, odd in repeating(key).items():
            unlocked.default = odd.fault(streamed)
            error = await failed(llm, streamed)
            assert (error.code, error.reason) == odd.expected, name
            assert "[key]" in error.message
            assert key not in f"{error!r} {error.message} {error.metadata}"


@pytest.mark.parametrize("dialect", ["openrouter", "openai"])
@pytest.mark.parametrize("value", UNSENDABLE.values(), ids=UNSENDABLE)
async def test_a_key_that_cannot_be_sent(
    start: Start, upstream: OpenRouterUpstream, value: str, dialect: str
) -> None:
    """The check says so, not only the call; nobody is asked."""
    async with start(key=value, dialect=dialect) as llm:
        answer = await llm.is_available(MODEL)
        errors = [await failed(llm, streamed) for streamed in (False, True)]
        await llm.list_models()
    assert (answer.available, answer.state) == (False, "misconfigured")
    assert answer.reason == "API_KEY_REJECTED"
    for error in errors:
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "API_KEY_REJECTED")
        assert error.metadata["variable"] == "OPENROUTER_API_KEY"
        assert error.message.startswith("OPENROUTER_API_KEY holds ")
        assert value not in f"{error!r} {answer.detail}"
    assert not upstream.history


@pytest.mark.parametrize("empty", ["", "  ", "\r\n", '""'])
async def test_an_empty_variable_is_no_key(
    start: Start, upstream: OpenRouterUpstream, empty: str
) -> None:
    async with start(key=empty) as llm:
        assert (await llm.is_available(MODEL)).reason == "API_KEY_MISSING"
        assert (await failed(llm, False)).reason == "API_KEY_MISSING"
    assert not upstream.history


@pytest.mark.parametrize("key", ["", KEY])
async def test_a_user_and_password_in_the_address(start: Start, unlocked: Open, key: str) -> None:
    """They are sent in place of the key, and shown nowhere."""
    base = unlocked.url.replace("http://", "http://someone:hunter2hunter2@")
    async with start(key=key, base_url=base, dialect="openai", max_attempts=1) as llm:
        await call(llm, False)
        unlocked.default = Fault(400, "not hunter2hunter2")
        error = await failed(llm, False)
        answer = await llm.is_available(MODEL)
    assert unlocked.history[0].headers["Authorization"].startswith("Basic ")
    assert "hunter2" not in f"{error!r} {error.message} {answer!r}"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("base_url", "http://127.0.0.1:1/v1?key=k"),
        ("base_url", "http://127.0.0.1:1/v1#k"),
        ("title", "two\nlines"),
        ("referer", "two\rlines"),
    ],
)
def test_settings_that_could_not_be_sent(setting: str, value: str) -> None:
    with pytest.raises(ValueError, match=setting):
        OpenRouterConfig.model_validate({"listen": "127.0.0.1:0", "models": [], setting: value})
