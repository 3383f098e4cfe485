"""A key is in no log, no error, no reply: planted ones are looked for."""

from __future__ import annotations

import pytest

from arena_llm import ArenaError, AsyncClient
from tests.support.upstreams.openrouter import KEY, OpenRouterUpstream
from tests.support.upstreams.server import Fault, Reply
from tests.unit.openrouter.conftest import Start

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
