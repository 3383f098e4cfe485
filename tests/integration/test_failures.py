"""Killed processes and models that cannot load: the errors that callers get, and recovery."""

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
#: Options of a generation that ends only when it is cancelled.
ENDLESS: dict[str, Any] = {"regex": "([78] ){4000}", "max_tokens": 4000}

#: The largest batch of the hf service.
BATCH = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("failures")


@pytest.fixture(scope="module")
def system(folder: Path) -> Iterator[System]:
    """A system whose processes may be killed.

    It has a second backend behind the router and no connection to the model hub; the files
    of one model are corrupt.
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
            system.close()


@pytest.fixture
def llm(system: System) -> Iterator[Client]:
    """A client, while hf serves."""
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


def test_a_killed_backend_fails_its_calls_and_no_others(system: System, llm: Client) -> None:
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
        assert next(other), "the stream of the other backend continues"
        assert llm.generate("vllm_model", "hello").text == "vllm"
        wait_until(lambda: serves(llm))
        assert next(other), "it still continues"
    assert system.pid("hf") not in (0, killed)


def test_the_error_of_a_dead_backend_names_it_and_how_to_start_it(
    system: System, llm: Client
) -> None:
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
    """Other calls fill the batch, so that all 50 calls wait when the signal comes."""
    stopped = system.pid("hf")
    with ExitStack() as others, ThreadPoolExecutor(1) as pool:
        for _ in range(BATCH):
            stream = others.enter_context(closing(llm.stream(MODEL, "Your move?", **ENDLESS)))
            assert next(stream)
        prompts = [f"Say {n}." for n in range(50)]
        outcomes = llm.generate_many(
            MODEL, prompts, concurrency=50, regex="[78]{900}", max_tokens=3
        )
        calls = pool.submit(dict, outcomes)
        wait_until(lambda: load(llm).waiting == 50)
        os.kill(stopped, signal.SIGTERM)
        wait_until(lambda: not listens(system.hf_target))
        others.close()
        replies = calls.result(120)
    assert [type(reply) for reply in replies.values()] == [Completion] * 50
    assert {
        reply.usage.completion_tokens for reply in replies.values() if isinstance(reply, Completion)
    } == {3}
    wait_until(lambda: serves(llm))
    assert system.pid("hf") != stopped


def test_a_corrupt_file_is_named_and_the_service_still_serves(system: System, llm: Client) -> None:
    before = system.pid("hf")
    for _ in range(2):
        with pytest.raises(ArenaError) as caught:
            llm.generate("hf_corrupt", "Your move?")
        error = caught.value
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "MODEL_MISCONFIGURED")
        assert "corrupt" in error.message
    availability = llm.is_available("hf_corrupt")
    assert (availability.available, availability.state) == (False, ModelState.MISCONFIGURED)
    assert availability.reason == "MODEL_MISCONFIGURED"
    assert serves(llm)
    assert system.pid("hf") == before


def test_an_unreachable_model_hub_is_reported(system: System, llm: Client) -> None:
    assert llm.is_available("hf_gpt2").state == ModelState.NOT_LOADED
    with pytest.raises(UnavailableError, match="the model hub cannot be reached") as caught:
        llm.generate("hf_gpt2", "Your move?")
    assert caught.value.reason == "UPSTREAM_UNAVAILABLE"
    assert not llm.is_available("hf_gpt2").available
    assert serves(llm)
