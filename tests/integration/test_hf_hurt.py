"""One model is hurt, in a real service; the model beside it goes on answering."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from arena_llm import Client, Message
from arena_llm.errors import ArenaError
from arena_llm.types import Completion, ModelState
from tests.support.broken_models import (
    add_far_token,
    raise_at,
    remove_weights,
    spoil_token,
    spoil_weights,
)
from tests.support.processes import ServiceProcess
from tests.support.system import free_ports
from tests.support.tiny_models import make_checkpoint
from tests.support.waiting import wait_until

#: The hurt models read this letter badly.
BAD = "Z"
GOOD = "hf_good"
SYSTEM = [Message("system", "Play.")]
TALK = [*SYSTEM, Message("user", "Your move?")]
MISCONFIGURED = ("FAILED_PRECONDITION", "MODEL_MISCONFIGURED")
INVALID = ("INVALID_ARGUMENT", "INVALID_REQUEST")

TEMPLATES = {
    "hf_empty": "{{ '' }}",
    "hf_syntax": "{% if %}",
    "hf_type": "{{ 1 + messages[0].content }}",
    "hf_undefined": "{{ nothing.here }}",
    "hf_recursive": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    # Works, but renders nothing of a system message alone, as Llama 2's does.
    "hf_silent": "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
    "hf_picky": "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %}{{ messages[0].content }}",
    "hf_surrogate": "{{ '\\ud800' if messages[1] }}{{ messages[0].content }}",
    "hf_second": "{{ messages[0].content }}{% if messages[1] %}{{ messages[7].x }}{% endif %}",
}


@pytest.fixture(scope="module")
def flag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file exists, every pass of hf_own fails."""
    return tmp_path_factory.mktemp("flag") / "broken"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, flag: Path) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("models")

    def llama(name: str, **options: Any) -> Path:
        return make_checkpoint(folder / name, "llama", **options)

    paths = {
        GOOD: llama("good", chat=True),
        "hf_base": llama("base"),
        "hf_nan": spoil_weights(llama("nan")),
        "hf_poisoned": spoil_token(llama("poisoned"), BAD),
        "hf_far": add_far_token(llama("far"), "<|far|>"),
        "hf_own": raise_at(llama("own"), BAD, flag),
        "hf_exits": raise_at(llama("exits"), BAD, flag, "SystemExit"),
        "hf_gone": remove_weights(llama("gone")),
    }
    entries: list[dict[str, Any]] = [
        {
            "name": name,
            "model_path": str(path),
            "trust_remote_code": name in ("hf_own", "hf_exits"),
            "preload": name == "hf_gone",
        }
        for name, path in paths.items()
    ]
    for name, source in TEMPLATES.items():
        (folder / f"{name}.jinja").write_text(source)
        template = str(folder / f"{name}.jinja")
        entries.append(
            {"name": name, "model_path": str(paths["hf_base"]), "chat_template": template}
        )
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    config = folder / "hf_models.yaml"
    config.write_text(yaml.safe_dump({"listen": address, "device": "cpu", "models": entries}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_MODULES_CACHE", str(folder / "modules"))
        with ServiceProcess(address, "-m", "services.hf", "--config", str(config)) as process:
            yield process


@pytest.fixture(scope="module")
def llm(service: ServiceProcess) -> Iterator[Client]:
    with Client(service.address) as client:
        yield client


@pytest.fixture(autouse=True)
def beside(service: ServiceProcess, llm: Client) -> Iterator[None]:
    """Another model answers during each test, from the same process."""
    process, ended, replies = service.process, threading.Event(), list[Completion]()

    def ask() -> None:
        while not ended.is_set() or not replies:
            replies.append(llm.generate(GOOD, messages=TALK, choices=["7", "8"], timeout=60))

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        yield
        ended.set()
        asking.result()
    assert {reply.text for reply in replies} <= {"7", "8"}
    assert process.poll() is None


#: Each way to ask, with a prompt or a conversation.
ASK: dict[str, Callable[[Client, str, Any], object]] = {
    "generate": lambda llm, model, given: llm.generate(model, **given, max_tokens=2),
    "greedy": lambda llm, model, given: llm.generate(model, **given, max_tokens=2, temperature=0),
    "stream": lambda llm, model, given: list(llm.stream(model, **given, max_tokens=2)),
    "choices": lambda llm, model, given: llm.generate(model, **given, choices=["a", "b"]),
    "logprobs": lambda llm, model, given: llm.generate(model, **given, max_tokens=2, logprobs=2),
    "score": lambda llm, model, given: llm.score(
        model, given.get("prompt"), ["a"], messages=given.get("messages")
    ),
}


def refused(way: str, llm: Client, model: str, given: Any) -> ArenaError:
    with pytest.raises(ArenaError) as caught:
        ASK[way](llm, model, given)
    return caught.value


@pytest.mark.parametrize("way", ASK)
@pytest.mark.parametrize("model", ["hf_nan", "hf_poisoned"])
def test_no_answer_is_made_of_nan(llm: Client, model: str, way: str) -> None:
    error = refused(way, llm, model, {"prompt": f"a{BAD}b"})
    assert (error.code, error.reason) == MISCONFIGURED
    assert f"{model} computes NaN" in str(error)


def test_a_model_of_nan_is_never_ready(llm: Client) -> None:
    refused("generate", llm, "hf_nan", {"prompt": "a"})
    now = llm.is_available("hf_nan")
    assert (now.available, now.state) == (False, ModelState.MISCONFIGURED)
    assert "NaN" in now.detail
    assert llm.generate("hf_poisoned", "a", choices=["7", "8"]).text in "78"
    assert llm.is_available("hf_poisoned").state == ModelState.READY


@pytest.mark.parametrize("way", ASK)
@pytest.mark.parametrize(
    "model", ["hf_empty", "hf_syntax", "hf_type", "hf_undefined", "hf_recursive"]
)
def test_a_template_that_never_works_is_the_models_fault(llm: Client, model: str, way: str) -> None:
    for _ in range(4):
        error = refused(way, llm, model, {"prompt": "Your move?"})
        assert (error.code, error.reason) == MISCONFIGURED
    assert llm.is_available(model).state == ModelState.MISCONFIGURED


@pytest.mark.parametrize("way", ASK)
@pytest.mark.parametrize(
    ("model", "messages", "why"),
    [
        ("hf_silent", SYSTEM, "renders nothing"),
        ("hf_picky", SYSTEM, "no system role"),
        ("hf_second", TALK, "UndefinedError"),
        ("hf_surrogate", TALK, "UnicodeEncodeError"),
        ("hf_base", TALK, "base model"),
    ],
)
def test_a_conversation_that_a_template_cannot_take_is_the_callers(
    llm: Client, model: str, messages: list[Message], why: str, way: str
) -> None:
    for _ in range(4):
        error = refused(way, llm, model, {"messages": messages})
        assert (error.code, error.reason, error.field) == (*INVALID, "conversation")
        assert why in str(error)
    assert llm.generate(model, "Your move?", choices=["7", "8"]).text in "78"
    assert llm.is_available(model).state == ModelState.READY


@pytest.mark.parametrize("way", ASK)
def test_preloaded_weights_that_are_gone_are_that_models_fault(llm: Client, way: str) -> None:
    error = refused(way, llm, "hf_gone", {"prompt": "a"})
    assert (error.code, error.reason) == MISCONFIGURED
    assert llm.is_available("hf_gone").state == ModelState.MISCONFIGURED


def test_a_token_without_an_embedding_is_named(llm: Client) -> None:
    for way in ASK:
        error = refused(way, llm, "hf_far", {"prompt": "a<|far|>"})
        assert (error.code, error.reason, error.field) == (*INVALID, "prompt")
    with pytest.raises(ArenaError) as caught:
        llm.score("hf_far", "a", ["b", "<|far|>"])
    assert caught.value.field == "continuations[1]"
    assert llm.generate("hf_far", "a", choices=["<|far|>"]).text == "<|far|>"


@pytest.mark.parametrize("model", ["hf_own", "hf_exits"])
def test_an_input_that_fails_a_pass_fails_alone(llm: Client, model: str) -> None:
    prompts = [f"a{BAD}" if number % 4 == 3 else f"a{number}" for number in range(16)]
    replies = llm.generate_many(model, prompts, choices=["7 8 9", "8 9 7"])
    for prompt, reply in zip(prompts, replies, strict=True):
        assert isinstance(reply, Completion) == (BAD not in prompt)
    reasons = {reply.reason for reply in replies if isinstance(reply, ArenaError)}
    assert reasons == {"UPSTREAM_UNAVAILABLE"}
    assert llm.is_available(model).state == ModelState.READY


def test_a_model_whose_passes_fail_dies_alone_and_comes_back(llm: Client, flag: Path) -> None:
    assert llm.generate("hf_own", "a", choices=["7", "8"]).text in "78"
    flag.touch()
    for way in ASK:
        error = refused(way, llm, "hf_own", {"prompt": "a"})
        assert (error.code, error.reason) == MISCONFIGURED
        assert "out of order" in str(error)
    now = llm.is_available("hf_own")
    assert (now.available, now.state) == (False, ModelState.MISCONFIGURED)
    assert "out of order" in now.detail
    flag.unlink()

    def answers() -> bool:
        try:
            return llm.generate("hf_own", "a", choices=["7", "8"]).text in "78"
        except ArenaError:
            return False

    wait_until(answers)
    assert llm.is_available("hf_own").state == ModelState.READY
