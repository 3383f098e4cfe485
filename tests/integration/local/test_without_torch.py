"""The real hf service where torch, transformers, Ray and the rest cannot be imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from arena_llm import ArenaError, Client, Message
from arena_llm.types import ModelState
from services.common.local.checks import embedded_folder
from services.hf.embedded import prepare
from tests.support.ports import free_ports
from tests.support.processes import ServiceProcess
from tests.support.tiny_models import make_checkpoint

EMBEDDED, OTHER = "hf_smollm2-135m-instruct", "hf_other"
#: Runs the service in an environment that has only what `make up` installs.
_SERVE = """
import runpy, sys
for name in ("torch", "transformers", "accelerate", "ray", "pyarrow"):
    sys.modules[name] = None

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
del sys.modules["torch"], sys.modules["transformers"]
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: (
    None if name in ("torch", "transformers") else find_spec(name, *rest)
)
runpy.run_module("services.hf", run_name="__main__")
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("light")
    prepare(embedded_folder())
    other = make_checkpoint(folder / "other", "llama", chat=True)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    models = [
        {"name": EMBEDDED, "model_path": str(embedded_folder().absolute()), "preload": True},
        {"name": OTHER, "model_path": str(other)},
    ]
    config = folder / "hf_models.yaml"
    config.write_text(yaml.safe_dump({"listen": address, "device": "auto", "models": models}))
    with ServiceProcess(address, "-c", _SERVE, "--config", str(config)) as running:
        yield running


@pytest.fixture
def llm(service: ServiceProcess) -> Iterator[Client]:
    with Client(service.address) as client:
        yield client


def test_the_embedded_model_does_everything(llm: Client, service: ServiceProcess) -> None:
    state = llm.is_available(EMBEDDED)
    assert (state.state, state.detail) == (ModelState.READY, "loaded"), service.log()
    question = "What is the capital of France?"
    reply = llm.generate(EMBEDDED, question, max_tokens=16, temperature=0)
    assert "Paris" in reply.text
    assert reply.served_by.engine.startswith("openvino")
    assert llm.generate(EMBEDDED, "Your move?", choices=["0", "4", "12"]).text in ("0", "4", "12")
    assert llm.generate(EMBEDDED, "Your move?", regex="[a-c]{3}").text.strip("abc") == ""
    talk = [Message("system", "Be brief."), Message("user", question)]
    chat = llm.generate(EMBEDDED, messages=talk, max_tokens=8, seed=7, top_logprobs=2)
    assert chat.usage.completion_tokens
    scores = llm.score(EMBEDDED, f"{question} It is", [" Paris", " fishes"])
    assert max(scores, key=lambda score: score.logprob).text == " Paris"
    assert llm.count_tokens(EMBEDDED, question).tokens > 5
    with llm.stream(EMBEDDED, question, max_tokens=8, temperature=0) as stream:
        assert reply.text.startswith("".join(stream))


def test_another_model_says_what_to_install(llm: Client) -> None:
    state = llm.is_available(OTHER)
    assert state.state is ModelState.MISCONFIGURED
    assert "run `make setup WITH=torch`" in state.detail
    with pytest.raises(ArenaError, match="needs torch and transformers") as caught:
        llm.generate(OTHER, "Your move?")
    assert caught.value.reason == "MODEL_MISCONFIGURED"
    # The embedded model still answers.
    assert llm.generate(EMBEDDED, "Your move?", choices=["0", "4"]).text in ("0", "4")


def test_the_process_is_small(service: ServiceProcess, llm: Client) -> None:
    for move in range(20):
        llm.generate(EMBEDDED, f"Game {move}. Your move?", choices=["0", "4", "8"])
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    [resident] = [int(line.split()[1]) for line in status.splitlines() if line[:6] == "VmRSS:"]
    assert resident < 600_000, f"{resident} KB"
