"""What only the vllm service does: LoRA adapters, metrics, entries that cannot run, isolation."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from arena_llm import Client
from arena_llm.errors import ArenaError
from arena_llm.types import FinishReason, ModelState, RawPrompt, Tool, ToolChoice, ToolMode
from deploy.probe import health
from deploy.services import VLLM
from tests.support.local_models import UNUSABLE, LocalService, merge_lora
from tests.support.system import System

TINY = "vllm_tiny"
PROMPT = "Tic-tac-toe. The board is empty. You are X. Answer with the number of a cell."


@pytest.fixture
def service(system: System) -> LocalService:
    return LocalService("vllm", system)


@pytest.fixture
def llm(system: System) -> Iterator[Client]:
    """Through the router, as players call it."""
    with Client(system.target) as client:
        yield client


def test_it_is_one_of_the_services(system: System, service: LocalService, llm: Client) -> None:
    assert "vllm" in system.deploy("status").stdout
    assert health(service.address) == "SERVING"
    assert TINY in [model.name for model in llm.list_models() if model.backend == "vllm"]
    assert psutil.Process(system.pid("vllm")).exe() == str(Path(VLLM.python).resolve())


def test_grpcurl_needs_no_files(system: System, service: LocalService) -> None:
    grpcurl = system.deploy("grpcurl").stdout.strip()
    method = "arena_llm.v1.LlmService/IsAvailable"
    done = subprocess.run(
        [grpcurl, "-plaintext", "-d", f'{{"model": "{TINY}"}}', service.address, method],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert '"MODEL_STATE_READY"' in done.stdout, done.stderr


def test_its_processes_listen_on_loopback_only(system: System) -> None:
    service = psutil.Process(system.pid("vllm"))
    processes = [service, *service.children(recursive=True)]
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    }
    assert len(processes) >= 3
    assert listening == {"127.0.0.1"}


def test_an_adapter_is_a_separate_model(llm: Client) -> None:
    options: dict[str, Any] = {"max_tokens": 16, "temperature": 0}
    base, black = (llm.generate(name, PROMPT, **options) for name in (TINY, f"{TINY}-black"))
    assert base.text != black.text
    assert black.model == f"{TINY}-black"
    assert llm.generate(TINY, PROMPT, **options).text == base.text
    scores = [llm.score(name, PROMPT, ["4"])[0].logprob for name in (TINY, f"{TINY}-black")]
    assert scores[0] != pytest.approx(scores[1], abs=1e-3)


def test_an_adapter_with_a_rank_for_each_module(system: System, llm: Client) -> None:
    """Its scores are those of the model with the adapter in its weights."""
    models = yaml.safe_load((Path(system.env["ARENA_CONFIG_DIR"]) / VLLM.config).read_text())
    [tiny] = [model for model in models["models"] if model["name"] == TINY]
    [path] = [lora["path"] for lora in tiny["lora"] if lora["name"] == f"{TINY}-ranks"]
    merged = AutoModelForCausalLM.from_pretrained(tiny["model_path"], dtype=torch.float32)
    merge_lora(merged, Path(path))
    ids = (20, 21, 22, 40, 41)
    with torch.inference_mode():
        logprobs = merged(torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = [float(logprobs[place, token]) for place, token in enumerate(ids[1:])]
    [score] = llm.score(f"{TINY}-ranks", RawPrompt(token_ids=ids[:1]), [ids[1:]])
    assert score.tokens.logprobs == pytest.approx(expected, abs=1e-3)


def test_a_forced_call(llm: Client) -> None:
    """The engine's decoding forces it, so that even a random model calls a tool."""
    # Without free text, in which the model may write the letter after which it computes NaN.
    schema = {
        "properties": {"x": {"enum": [1, 2]}},
        "required": ["x"],
        "additionalProperties": False,
    }
    tools = [Tool("look", "", json.dumps({"type": "object", **schema})), Tool("wait")]
    options: dict[str, Any] = {
        "tools": tools,
        "tool_choice": ToolChoice(ToolMode.REQUIRED, ("look",)),
        "max_tokens": 120,
    }
    for seed in range(3):
        stream = llm.stream(TINY, "7", seed=seed, **options)
        assert "".join(stream) == ""
        reply = stream.completion
        if reply.finish_reason is FinishReason.LENGTH:
            continue  # the random model calls again and again
        assert reply.finish_reason is FinishReason.TOOL_CALLS
        for call in reply.tool_calls:
            assert call.name == "look"
            assert json.loads(call.arguments)["x"] in (1, 2)
        assert len({call.id for call in reply.tool_calls}) == len(reply.tool_calls) > 0


@pytest.mark.parametrize("model", UNUSABLE)
def test_an_unusable_model_says_why_and_the_others_serve(llm: Client, model: str) -> None:
    with pytest.raises(ArenaError, match=UNUSABLE[model]) as caught:
        llm.generate(model, PROMPT)
    assert (caught.value.code, caught.value.reason) == (
        "FAILED_PRECONDITION",
        "MODEL_MISCONFIGURED",
    )
    state = llm.is_available(model)
    assert (state.available, state.state) == (False, ModelState.MISCONFIGURED)
    assert re.search(UNUSABLE[model], state.detail)
    assert re.search(r"configured in .*vllm_models\.yaml", state.detail)
    assert model in state.detail
    assert llm.generate(TINY, PROMPT, choices=["4"]).text == "4"


def test_failed_starts_leave_no_files(system: System, llm: Client) -> None:
    """The models above have failed to start; one engine runs."""

    def find_files() -> tuple[set[str], set[str]]:
        """The folders of engines, and the prefixes of their shared memory."""
        folders = Path(system.env["TMPDIR"]).glob("arena-vllm-*/*")
        memory = (path.name for path in Path("/dev/shm").iterdir())  # noqa: S108
        prefixes = {name[:8] for name in memory if re.match(r"[0-9a-f]{8}", name)}
        return {folder.name for folder in folders}, prefixes

    before = find_files()
    assert len(before[0]) == 1
    assert before[1], "the engine that runs has some"
    with pytest.raises(ArenaError):
        llm.generate("vllm_memory", PROMPT)
    assert find_files() == before


def test_many_scores_read_their_prompt_from_the_cache(service: LocalService, llm: Client) -> None:
    """Also continuations that begin alike. The prompt is computed once."""
    names = [f"vllm:prefix_cache_{what}_total" for what in ("queries", "hits")]
    prompt = "You may move to: " + ", ".join(f"cell {n}" for n in range(40))
    before = [service.metric(name) for name in names]
    scores = llm.score(TINY, prompt, [f"cell {n}" for n in range(100)])
    queries, hits = (service.metric(name) - b for name, b in zip(names, before, strict=True))
    assert len(scores) == 100
    assert all(math.isfinite(score.logprob) and score.logprob < 0 for score in scores)
    assert hits > 0.7 * queries


def test_metrics(service: LocalService, llm: Client) -> None:
    """Our own metrics, and vLLM's of the engine."""
    llm.generate(TINY, PROMPT, max_tokens=8, temperature=0)
    assert service.metric("arena_vllm_queue_depth") == 0
    assert service.metric("arena_vllm_running_requests") == 0
    assert 0 <= service.metric("arena_vllm_kv_cache_usage") <= 1
    assert service.metric("arena_vllm_tokens_per_second") > 0
    assert service.metric("vllm:num_requests_running") == 0
    assert service.metric("vllm:time_to_first_token_seconds_count") > 0
    tokens = service.load(llm).generated_tokens
    assert tokens == service.metric("vllm:generation_tokens_total") > 0
