"""Broken models and chat templates in a real hf service. Another model keeps answering."""

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
    raise_at,
    remove_weights,
    spoil_weights,
)
from tests.support.processes import ServiceProcess
from tests.support.system import free_ports
from tests.support.tiny_models import make_checkpoint
from tests.support.waiting import wait_until

#: The broken models fail on this letter.
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
    # Works, but renders nothing for a system message alone, as Llama 2's does.
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
            ended.wait(0.02)  # leave the cores to the broken models

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        yield
        ended.set()
        asking.result()
    assert {reply.text for reply in replies} <= {"7", "8"}
    assert process.poll() is None


#: Every kind of call, with a prompt or a conversation.
CALLS: dict[str, Callable[[Client, str, Any], object]] = {
    "generate": lambda llm, model, options: llm.generate(model, **options, max_tokens=2),
    "greedy": lambda llm, model, options: llm.generate(
        model, **options, max_tokens=2, temperature=0
    ),
    "stream": lambda llm, model, options: list(llm.stream(model, **options, max_tokens=2)),
    "choices": lambda llm, model, options: llm.generate(model, **options, choices=["a", "b"]),
    "logprobs": lambda llm, model, options: llm.generate(
        model, **options, max_tokens=2, top_logprobs=2
    ),
    "score": lambda llm, model, options: llm.score(
        model, options.get("prompt"), ["a"], messages=options.get("messages")
    ),
}


def refused(call: str, llm: Client, model: str, options: Any) -> ArenaError:
    with pytest.raises(ArenaError) as caught:
        CALLS[call](llm, model, options)
    return caught.value


def test_a_model_that_computes_nan_is_never_ready(llm: Client) -> None:
    for call in CALLS:
        error = refused(call, llm, "hf_nan", {"prompt": "a"})
        assert (error.code, error.reason) == MISCONFIGURED
        assert "hf_nan computes NaN" in str(error)
    now = llm.is_available("hf_nan")
    assert (now.available, now.state) == (False, ModelState.MISCONFIGURED)
    assert "NaN" in now.detail


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "model", ["hf_empty", "hf_syntax", "hf_type", "hf_undefined", "hf_recursive"]
)
def test_a_template_that_always_fails_makes_the_model_misconfigured(
    llm: Client, model: str, call: str
) -> None:
    for _ in range(2):
        error = refused(call, llm, model, {"prompt": "Your move?"})
        assert (error.code, error.reason) == MISCONFIGURED
    assert llm.is_available(model).state == ModelState.MISCONFIGURED


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("model", "messages", "why"),
    [
        ("hf_silent", SYSTEM, "renders nothing"),
        ("hf_picky", SYSTEM, "no system role"),
        ("hf_second", TALK, "UndefinedError"),
        ("hf_surrogate", TALK, "UnicodeEncodeError"),
    ],
)
def test_a_conversation_that_the_template_refuses_is_an_invalid_request(
    llm: Client, model: str, messages: list[Message], why: str, call: str
) -> None:
    for _ in range(2):
        error = refused(call, llm, model, {"messages": messages})
        assert (error.code, error.reason, error.field) == (*INVALID, "conversation")
        assert why in str(error)
    assert llm.generate(model, "Your move?", choices=["7", "8"]).text in "78"
    assert llm.is_available(model).state == ModelState.READY


@pytest.mark.parametrize("call", CALLS)
def test_a_base_model_has_no_conversations(llm: Client, call: str) -> None:
    error = refused(call, llm, "hf_base", {"messages": TALK})
    assert (error.code, error.reason) == ("UNIMPLEMENTED", "UNSUPPORTED")
    assert error.field == "conversation"
    assert "base model" in str(error)


@pytest.mark.parametrize("call", CALLS)
def test_missing_weights_make_the_model_misconfigured(llm: Client, call: str) -> None:
    error = refused(call, llm, "hf_gone", {"prompt": "a"})
    assert (error.code, error.reason) == MISCONFIGURED
    assert llm.is_available("hf_gone").state == ModelState.MISCONFIGURED


@pytest.mark.parametrize("model", ["hf_own", "hf_exits"])
def test_an_input_that_fails_a_pass_does_not_fail_the_others(llm: Client, model: str) -> None:
    prompts = [f"a{BAD}" if number % 4 == 3 else f"a{number}" for number in range(16)]
    replies = dict(llm.generate_many(model, prompts, choices=["7 8 9", "8 9 7"]))
    for index, prompt in enumerate(prompts):
        assert isinstance(replies[index], Completion) == (BAD not in prompt)
    reasons = {reply.reason for reply in replies.values() if isinstance(reply, ArenaError)}
    assert reasons == {"UPSTREAM_UNAVAILABLE"}
    assert llm.is_available(model).state == ModelState.READY


def test_a_model_whose_passes_fail_ends_alone_and_is_loaded_again(llm: Client, flag: Path) -> None:
    assert llm.generate("hf_own", "a", choices=["7", "8"]).text in "78"
    flag.touch()
    for call in CALLS:
        error = refused(call, llm, "hf_own", {"prompt": "a"})
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
