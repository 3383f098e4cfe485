"""Processes that are killed, models that cannot load: who notices, and what comes back."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from arena_llm import Client
from arena_llm.errors import ArenaError, UnavailableError
from arena_llm.types import Completion, EngineLoad, ModelState
from deploy.services import ROOT
from tests.support.processes import listens, scripted_process
from tests.support.system import System, free_ports
from tests.support.tiny_models import make_checkpoint
from tests.support.waiting import wait_until

MODEL = "hf_smollm2-135m-instruct"
#: Generates until it is stopped.
ENDLESS: dict[str, Any] = {"regex": "([78] ){4000}", "max_tokens": 4000}

#: Requests that run together.
BATCH = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("failures")


@pytest.fixture(scope="module")
def system(folder: Path) -> Iterator[System]:
    """A system of this file's own, because its processes are killed.

    A second backend answers behind its router, the model hub cannot be reached, and
    one of its models has a corrupt file.
    """
    corrupt = make_checkpoint(folder / "corrupt", "llama")
    (corrupt / "model.safetensors").write_bytes(b"not tensors" * 100)
    configs = Path(shutil.copytree(ROOT / "configs", folder / "configs"))
    with open(configs / "hf_models.yaml", "a") as models:
        models.write(f"\n  - name: hf_corrupt\n    model_path: {corrupt}\nmax_batch: {BATCH}\n")
    address = f"127.0.0.1:{free_ports(1)[0]}"
    environ = {
        "ARENA_CONFIG_DIR": str(configs),
        "ARENA_VLLM_PORT": address.rpartition(":")[2],
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hub"),
    }
    system = System(folder / "run", environ)
    with scripted_process(address, "vllm"):
        try:
            system.up()
            yield system
        finally:
            system.down()


@pytest.fixture
def llm(system: System) -> Iterator[Client]:
    """A client of a system in which hf serves."""
    with Client(system.target) as client:
        wait_until(lambda: serves(client))
        yield client


def serves(llm: Client) -> bool:
    try:
        return llm.generate(MODEL, "Your move?", choices=["4"]).text == "4"
    except UnavailableError:
        return False


def load(llm: Client) -> EngineLoad:
    return llm.is_available(MODEL).load or EngineLoad()


def test_kill_9_in_the_middle_of_calls(system: System, llm: Client) -> None:
    killed = system.pid("hf")
    with ThreadPoolExecutor(1) as pool, llm.stream("vllm_model", "drip") as other:
        assert next(other)
        stream = llm.stream(MODEL, "Your move?", **ENDLESS)
        assert next(stream)
        call = pool.submit(llm.generate, MODEL, "Your move?", **ENDLESS)
        wait_until(lambda: load(llm).running == 2)

        os.kill(killed, signal.SIGKILL)

        for broken in (lambda: call.result(60), lambda: list(stream)):
            with pytest.raises(UnavailableError) as caught:
                broken()
            assert "hf" in caught.value.message
            assert caught.value.model == MODEL
        assert next(other), "the other backend's stream goes on"
        assert llm.generate("vllm_model", "hello").text == "vllm"
        wait_until(lambda: serves(llm))
        assert next(other), "all the time"
    assert system.pid("hf") not in (0, killed)


def test_while_it_is_down_the_error_says_what_to_start(system: System, llm: Client) -> None:
    os.kill(system.pid("hf"), signal.SIGKILL)
    seen: list[ArenaError] = []

    def refused() -> bool:
        try:
            llm.generate(MODEL, "Your move?", choices=["4"], timeout=5)
        except ArenaError as error:
            seen.append(error)
        return any(error.reason == "BACKEND_DOWN" for error in seen)

    wait_until(refused)
    [down, *_] = [error for error in seen if error.reason == "BACKEND_DOWN"]
    assert isinstance(down, UnavailableError)
    assert system.hf_target in down.message
    assert "make up" in down.message
    assert {error.code for error in seen} <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    wait_until(lambda: serves(llm))


def test_sigterm_during_50_calls_fails_none_of_them(system: System, llm: Client) -> None:
    """While others run, so that all 50 are there."""
    stopped = system.pid("hf")
    with ExitStack() as others, ThreadPoolExecutor(1) as pool:
        for _ in range(BATCH):
            stream = others.enter_context(closing(llm.stream(MODEL, "Your move?", **ENDLESS)))
            assert next(stream)
        calls = pool.submit(
            llm.generate_many,
            MODEL,
            [f"Say {n}." for n in range(50)],
            concurrency=50,
            regex="[78]{900}",
            max_tokens=3,
        )
        wait_until(lambda: load(llm).waiting == 50)
        os.kill(stopped, signal.SIGTERM)
        wait_until(lambda: not listens(system.hf_target))
        others.close()
        replies = calls.result(120)
    assert [type(reply) for reply in replies] == [Completion] * 50
    assert {
        reply.usage.completion_tokens for reply in replies if isinstance(reply, Completion)
    } == {3}
    wait_until(lambda: serves(llm))
    assert system.pid("hf") != stopped


def test_a_corrupt_file_is_named_and_the_service_goes_on(system: System, llm: Client) -> None:
    before = system.pid("hf")
    for _ in range(2):
        with pytest.raises(ArenaError) as caught:
            llm.generate("hf_corrupt", "Your move?")
        error = caught.value
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "MODEL_MISCONFIGURED")
        assert "corrupt" in error.message
    told = llm.is_available("hf_corrupt")
    assert (told.available, told.state) == (False, ModelState.MISCONFIGURED)
    assert told.reason == "MODEL_MISCONFIGURED"
    assert serves(llm)
    assert system.pid("hf") == before


def test_no_model_hub_is_told_so(system: System, llm: Client) -> None:
    assert llm.is_available("hf_gpt2").state == ModelState.NOT_LOADED
    with pytest.raises(UnavailableError, match="the model hub cannot be reached") as caught:
        llm.generate("hf_gpt2", "Your move?")
    assert caught.value.reason == "UPSTREAM_UNAVAILABLE"
    assert not llm.is_available("hf_gpt2").available
    assert serves(llm)
