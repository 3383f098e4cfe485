"""Both hosted services with a third-party server with OpenAI's API, which runs a real model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from arena_llm import ArenaError, AsyncClient
from tests.support.foreign import MODEL, foreign_server
from tests.support.processes import ServiceProcess
from tests.support.system import free_ports

PROMPT = "What is the capital of France? Answer with one word."


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with foreign_server() as url:
        yield url


@pytest.fixture(scope="module", params=["litellm", "openrouter"])
def service(
    request: pytest.FixtureRequest, url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """The address of a service that calls the server, and the full name of its model."""
    (port,) = free_ports(1)
    name: str = request.param
    if name == "litellm":
        model = f"litellm_hosted_vllm/{MODEL}"
        top, address = "", f", api_base: '{url}'"
    else:
        model = f"openrouter_{MODEL}"
        top, address = "base_url: ${OPENROUTER_BASE_URL}\ndialect: ${OPENROUTER_DIALECT}\n", ""
    config = tmp_path_factory.mktemp(name) / "models.yaml"
    config.write_text(
        f"listen: 127.0.0.1:{port}\n{top}"
        f"models:\n  - {{name: {model}, structured_output: false{address}}}\n"
    )
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OPENROUTER_BASE_URL", url)
        environment.setenv("OPENROUTER_DIALECT", "openai")
        environment.setenv("OPENROUTER_API_KEY", "")  # the server needs none
        with ServiceProcess(
            *(f"127.0.0.1:{port}", "-m", f"services.{name}", "--config", str(config))
        ) as process:
            yield process.address, model


@pytest.fixture
def model(service: tuple[str, str]) -> str:
    return service[1]


@pytest.fixture
async def llm(service: tuple[str, str]) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(service[0], timeout=120) as client:
        yield client


async def test_whole_and_streamed(llm: AsyncClient, model: str) -> None:
    whole = await llm.generate(model, PROMPT, max_tokens=12, temperature=0, session="game-1")
    assert "Paris" in whole.text
    assert whole.usage.prompt_tokens > 10
    assert whole.usage.completion_tokens > 0
    assert whole.usage.cost_usd is None
    stream = llm.stream(model, PROMPT, max_tokens=12, temperature=0, seed=7)
    deltas = [delta async for delta in stream]
    assert "".join(deltas) == whole.text
    assert len(deltas) > 1
    assert stream.completion is not None
    assert stream.completion.finish_reason == whole.finish_reason


async def test_choices(llm: AsyncClient, model: str) -> None:
    # So small a model may fail twice, but a reply is always one of the choices.
    async for _, move in llm.generate_many(
        model, ["Pick a or b."], choices=["a", "b"], max_tokens=8
    ):
        if isinstance(move, ArenaError):
            assert move.reason in ("CONSTRAINT_NOT_MET", "INVALID_REQUEST")
        else:
            assert move.text in ("a", "b")


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_a_refusal_has_the_words_of_the_server(
    llm: AsyncClient, model: str, streamed: bool
) -> None:
    async def call() -> None:
        if streamed:
            async for _ in llm.stream(model, PROMPT, provider_options={"no_such_field": 1}):
                pass
        else:
            await llm.generate(model, PROMPT, provider_options={"no_such_field": 1})

    with pytest.raises(ArenaError) as caught:
        await call()
    assert (caught.value.code, caught.value.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert "no_such_field" in caught.value.message


async def test_an_unknown_model_is_named(llm: AsyncClient, model: str) -> None:
    with pytest.raises(ArenaError) as caught:
        await llm.generate(model.replace(MODEL, "nobody/nothing"), PROMPT)
    # litellm has no address for a model that is not listed.
    name = "HOSTED_VLLM_API_BASE" if model.startswith("litellm_") else "nobody/nothing"
    assert name in caught.value.message


async def test_availability_and_models(llm: AsyncClient, model: str) -> None:
    """The server has neither /key nor /credits, and its list of models fails."""
    answer = await llm.is_available(model)
    assert answer.available
    assert answer.detail
    assert answer.credits is None
    assert [entry.name for entry in await llm.list_models()] == [model]
