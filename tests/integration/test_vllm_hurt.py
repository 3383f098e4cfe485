"""One model is hurt, in a real service; the model beside it goes on answering."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from arena_llm import Client, Message
from arena_llm.errors import ArenaError
from arena_llm.types import Completion, ModelState
from tests.support.broken_models import spoil_token, spoil_weights
from tests.support.vllm import VllmProcess, make_lora, make_tiny, require_vllm

#: What vllm_poisoned reads badly.
BAD = "Z"
GOOD = "vllm_good"
MISCONFIGURED = ("FAILED_PRECONDITION", "MODEL_MISCONFIGURED")
PICKY = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages if m.role != 'assistant' %}{{ m.content }}{% endfor %}"
)


def spoiled_lora(folder: Path) -> Path:
    path = make_lora(folder) / "adapter_model.safetensors"
    tensors = {name: tensor * torch.nan for name, tensor in load_file(path).items()}
    save_file(tensors, path)
    return folder


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    require_vllm()
    folder = tmp_path_factory.mktemp("models")
    models = {
        GOOD: (make_tiny(folder / "good"), None),
        "vllm_nan": (spoil_weights(make_tiny(folder / "nan")), None),
        "vllm_poisoned": (spoil_token(make_tiny(folder / "poisoned"), BAD), PICKY),
        "vllm_empty": (folder / "good", "{{ '' }}"),
    }
    entries = []
    for name, (path, template) in models.items():
        entry = {
            "name": name,
            "model_path": str(path),
            "engine_args": {"kv_cache_memory_bytes": 1 << 28},
        }
        if template is not None:
            (folder / f"{name}.jinja").write_text(template)
            entry["chat_template"] = str(folder / f"{name}.jinja")
        if name == GOOD:
            lora = spoiled_lora(folder / "lora")
            entry["lora"] = [{"name": "vllm_good-nan", "path": str(lora)}]
        entries.append(entry)
    with VllmProcess(folder, entries) as process, Client(process.address) as client:
        yield client
        assert process.process.poll() is None


ASK: dict[str, Callable[[Client, str, str], object]] = {
    "generate": lambda llm, model, prompt: llm.generate(model, prompt, max_tokens=4),
    "greedy": lambda llm, model, prompt: llm.generate(model, prompt, max_tokens=4, temperature=0),
    "stream": lambda llm, model, prompt: list(llm.stream(model, prompt, max_tokens=4)),
    "choices": lambda llm, model, prompt: llm.generate(model, prompt, choices=["a", "b"]),
    "logprobs": lambda llm, model, prompt: llm.generate(model, prompt, max_tokens=4, logprobs=2),
    "score": lambda llm, model, prompt: llm.score(model, prompt, ["a", "bc"]),
}


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("vllm_nan", "vllm_nan computes NaN"),
        ("vllm_good-nan", "vllm_good-nan computes NaN"),
        ("vllm_empty", "vllm_empty cannot read a test conversation: .* renders nothing"),
    ],
)
def test_a_model_that_cannot_answer_is_never_ready(llm: Client, model: str, why: str) -> None:
    now = llm.is_available(model)
    assert (now.available, now.state) == (False, ModelState.MISCONFIGURED)
    with pytest.raises(ArenaError, match=why) as caught:
        llm.generate(model, "a")
    assert (caught.value.code, caught.value.reason) == MISCONFIGURED
    assert llm.is_available(GOOD).state == ModelState.READY
    assert llm.generate(GOOD, "a", choices=["7", "8"]).text in "78"


@pytest.mark.parametrize("way", ASK)
def test_no_answer_is_made_of_nan(llm: Client, way: str) -> None:
    with pytest.raises(ArenaError, match="vllm_poisoned computes NaN") as caught:
        ASK[way](llm, "vllm_poisoned", f"a{BAD}b")
    assert (caught.value.code, caught.value.reason) == MISCONFIGURED
    assert ASK[way](llm, "vllm_poisoned", "ab")
    assert llm.is_available("vllm_poisoned").state == ModelState.READY


def test_the_others_of_a_batch_go_on(llm: Client) -> None:
    prompts = [f"a{BAD}" if number % 4 == 3 else f"a{number}" for number in range(16)]
    replies = llm.generate_many("vllm_poisoned", prompts, regex="[0-6]{40}", max_tokens=40)
    for prompt, reply in zip(prompts, replies, strict=True):
        assert isinstance(reply, Completion) == (BAD not in prompt), reply


def test_a_conversation_that_the_template_refuses(llm: Client) -> None:
    for messages, why in [
        ([Message("system", "Play.")], "no system role"),
        ([Message("assistant", "Play.")], "renders nothing"),
    ]:
        with pytest.raises(ArenaError, match=why) as caught:
            llm.generate("vllm_poisoned", messages=messages)
        assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", "conversation")
