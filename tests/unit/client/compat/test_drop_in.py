"""Code for the original arena runs over the router, with each of its imports.

The small arena calls by position and by keyword, and ignores max_tokens where the original does.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import game_reasoning_arena.backends as backends
from arena_llm import errors
from arena_llm.v1 import models_pb2
from game_reasoning_arena.backends import backend_config, base_backend, llm_registry
from game_reasoning_arena.backends.backend_config import config
from tests.unit.client.scripted import Fail, Script, grpc, models, text_reply

NAMES = [
    "generate_response",
    "initialize_llm_registry",
    "LLM_REGISTRY",
    "get_available_models",
    "get_backend_for_model",
    "extract_model_name",
    "detect_model_backend",
    "list_models",
    "BaseLLMBackend",
    "OpenRouterBackend",
    "LiteLLMBackend",
    "VLLMBackend",
    "HuggingFaceBackend",
]
CLASSES = {
    "openrouter": ("openrouter_backend", "OpenRouterBackend"),
    "litellm": ("litellm_backend", "LiteLLMBackend"),
    "vllm": ("vllm_backend", "VLLMBackend"),
    "hf": ("huggingface_backend", "HuggingFaceBackend"),
}
MODELS = ["openrouter_openai/gpt-4o", "litellm_groq/llama", "vllm_llama", "hf_gpt2"]

#: A small arena of several modules: agents, registry and check.
ARENA = {
    "agents.py": """
        from game_reasoning_arena.backends import generate_response

        class Agent:
            def __init__(self, model_name):
                self.model_name = model_name

            def act(self, board):
                text = generate_response(
                    model_name=self.model_name, prompt=board, max_tokens=250, temperature=0.1
                )
                return int(text)

        class ShortAgent(Agent):
            def act(self, board):
                return int(generate_response(self.model_name, board))
    """,
    "setup.py": """
        from game_reasoning_arena.backends import LLM_REGISTRY, initialize_llm_registry

        initialize_llm_registry()
    """,
    "check.py": """
        from game_reasoning_arena.backends.backend_config import config as backend_config
        from game_reasoning_arena.backends.huggingface_backend import HuggingFaceBackend
        from game_reasoning_arena.backends.llm_registry import detect_model_backend

        def usable(model):
            if detect_model_backend(model) == "openrouter":
                return bool(backend_config.get_api_key("openrouter"))
            return HuggingFaceBackend().is_model_available(model)
    """,
    "play.py": """
        import game_reasoning_arena.backends as backends
        from agents import Agent, ShortAgent
        from check import usable
        from setup import LLM_REGISTRY

        assert LLM_REGISTRY is backends.LLM_REGISTRY
        print(*LLM_REGISTRY)
        kinds = (Agent, ShortAgent)
        models = [model for model in LLM_REGISTRY if usable(model)]
        players = [kind(model) for kind, model in zip(kinds, models)]
        board = []
        while len(board) < 9:
            move = players[len(board) % len(players)].act(" ".join(map(str, board)))
            board.append(move)
        print(*board)
        backends.list_models()
    """,
}

#: The original's seven games, played by OpenSpiel.
GAMES = [
    "tic_tac_toe", "connect_four", "kuhn_poker", "matrix_pd", "matching_pennies_3p", "matrix_rps",
    "hex",
]  # fmt: skip
ARENA["seven.py"] = """
        import sys

        import pyspiel
        from agents import Agent, ShortAgent
        from setup import LLM_REGISTRY

        def ask(players, state, seat):
            return players[seat % 2].act(" ".join(map(str, state.legal_actions(seat))))

        players = [kind(model) for kind, model in zip((Agent, ShortAgent), LLM_REGISTRY)]
        for name in sys.argv[1:]:
            game = pyspiel.load_game(name)
            state, seats = game.new_initial_state(), range(game.num_players())
            while not state.is_terminal():
                if state.is_chance_node():
                    state.apply_action(state.chance_outcomes()[0][0])
                elif state.is_simultaneous_node():
                    state.apply_actions([ask(players, state, seat) for seat in seats])
                else:
                    state.apply_action(ask(players, state, state.current_player()))
            print(name, len(state.returns()))
"""


def play(
    folder: Path, target: str, file: str = "play.py", *words: str
) -> subprocess.CompletedProcess[str]:
    """Run a program of the small arena."""
    for name, source in ARENA.items():
        (folder / name).write_text("\n".join(line[8:] for line in source.splitlines()))
    return subprocess.run(
        [sys.executable, str(folder / file), *words],
        env=os.environ | {"ARENA_LLM_TARGET": target, "OPENROUTER_API_KEY": "k"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_small_arena_plays(target: str, script: Script, tmp_path: Path) -> None:
    def respond(request):
        match type(request).__name__:
            case "ListModelsRequest":
                return models(*MODELS[::3])
            case "IsAvailableRequest":
                return models_pb2.IsAvailableResponse(available=True)
        return text_reply(str(len(request.prompt.split())))

    script.respond = respond
    done = play(tmp_path, target)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "openrouter_openai/gpt-4o hf_gpt2",
        "0 1 2 3 4 5 6 7 8",
        f"{'hf_gpt2':<40} (hf)",
        f"{'openrouter_openai/gpt-4o':<40} (openrouter)",
    ]
    moves = [seen.request for seen in script.history if seen.method == "Generate"]
    assert {request.model for request in moves} == set(MODELS[::3])
    limits = {request.model: request.config.max_tokens for request in moves}
    assert limits == {MODELS[0]: 250, MODELS[3]: 0}


def test_the_seven_games_end(target: str, script: Script, tmp_path: Path) -> None:
    def respond(request):
        if type(request).__name__ == "ListModelsRequest":
            return models(*MODELS[::3])
        return text_reply(request.prompt.split()[0])  # the first legal action

    script.respond = respond
    done = play(tmp_path, target, "seven.py", *GAMES)
    assert done.stderr == ""
    ended = dict(line.split() for line in done.stdout.splitlines())
    assert list(ended) == GAMES
    assert set(ended.values()) == {"2", "3"}
    moves = [seen.request for seen in script.history if seen.method == "Generate"]
    assert {request.model for request in moves} == set(MODELS[::3])


def test_an_arena_without_a_router_is_imported(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound and not listening
        taken.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{taken.getsockname()[1]}"
        done = play(tmp_path, target)
    # The program runs until it needs a model.
    assert "ZeroDivisionError" in done.stderr
    lines = [line for line in done.stderr.splitlines() if "registry" in line and "UNREACH" in line]
    assert len(lines) == 1
    assert target in lines[0]
    assert done.stdout == "\n"


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_exported(name: str) -> None:
    assert name in backends.__all__
    assert hasattr(backends, name)
    namespace: dict[str, object] = {}
    exec(f"from game_reasoning_arena.backends import {name}", namespace)  # noqa: S102
    assert namespace[name] is getattr(backends, name)


@pytest.mark.parametrize("backend", CLASSES)
def test_a_backend_is_an_object(backend: str, default_target: str, script: Script) -> None:
    module, name = CLASSES[backend]
    cls = getattr(importlib.import_module(f"game_reasoning_arena.backends.{module}"), name)
    assert cls is getattr(backends, name)
    assert issubclass(cls, backends.BaseLLMBackend)
    assert base_backend.BaseLLMBackend is backends.BaseLLMBackend
    llm = cls()
    full = next(model for model in MODELS if llm_registry.detect_model_backend(model) == backend)
    bare = llm_registry.extract_model_name(full)
    assert [llm.generate_response(model, "hi", max_tokens=5) for model in (full, bare)] == [
        "hi",
        "hi",
    ]
    available = models_pb2.IsAvailableResponse(available=True)
    script.enqueue(available, Fail(grpc.StatusCode.NOT_FOUND, "no", "MODEL_NOT_FOUND"))
    assert [llm.is_model_available(model) for model in (full, bare)] == [True, False]
    assert {seen.request.model for seen in script.history} == {full}
    script.enqueue(models(*MODELS))
    assert llm.get_available_models() == [full]
    script.enqueue(models(*MODELS))
    assert llm.load_models() == [full]
    assert str(llm) == f"{name}({backend})"
    assert llm.load_model(bare) == bare


def test_a_subclass_of_the_base_class() -> None:
    """It defines get_available_models(), or inherits the original's default."""

    class Parrot(backends.BaseLLMBackend):
        def generate_response(self, model_name: str, prompt: str, **options) -> str:
            return prompt

        def is_model_available(self, model_name: str) -> bool:
            return True

    class Listed(Parrot):
        def get_available_models(self) -> list[str]:
            return ["parrot"]

    class Loading(Parrot):
        def load_models(self) -> list[str]:
            return ["parrot"]

        def load_model(self, model_name: str) -> object:
            return self

    for cls in (Listed, Loading):
        parrot = cls("parrot")
        assert parrot.generate_response("parrot", "hi") == "hi"
        assert parrot.get_available_models() == ["parrot"]
    assert Parrot("mute").get_available_models() == []
    with pytest.raises(TypeError, match="abstract"):
        backends.BaseLLMBackend("x")  # type: ignore[abstract]


def test_arguments_by_position_and_by_keyword(
    default_target: str, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    assert backends.generate_response("hf_a", "hi", 5, 0.5) == "hi"
    assert backends.generate_response(prompt="hi", model_name="hf_a", seed=7, timeout=50) == "hi"
    assert not caplog.records
    # As in the original, an unknown option is ignored; here with a warning.
    assert backends.generate_response("hf_a", "hi", max_tokens=5, do_sample=True) == "hi"
    assert "do_sample" in caplog.text
    configs = [seen.request.config for seen in script.history]
    assert (configs[0].max_tokens, configs[0].temperature) == (5, 0.5)
    assert configs[1].seed == 7
    assert not configs[1].HasField("max_tokens")
    assert configs[2].max_tokens == 5


def test_the_registry_is_filled_in_place(default_target: str, script: Script) -> None:
    registry = backends.LLM_REGISTRY
    script.enqueue(models("hf_a", "vllm_b"), models("hf_c"))
    assert backends.initialize_llm_registry() is registry
    assert list(registry) == ["hf_a", "vllm_b"]
    entry = registry["hf_a"]
    assert entry.backend == entry["backend"] == entry.get("backend") == "hf"
    assert entry["display_name"] == entry["name"] == entry["model_loader"]() == "hf_a"
    assert entry.get("nonsense") is None
    assert "backend" in entry
    assert "nonsense" not in entry
    assert set(entry) >= {"display_name", "description", "backend", "model_loader"}
    assert len(entry) == len(dict(entry)) == len(entry.keys())
    with pytest.raises(KeyError):
        entry["nonsense"]
    backends.initialize_llm_registry({"llm_backend": {}})
    assert list(registry) == ["hf_c"]
    # A program may add a model as a mapping.
    registry["mine"] = {"backend": "parrot"}
    assert backends.get_backend_for_model("mine") == "parrot"
    assert backends.get_backend_for_model("hf_c") == "hf"
    assert backends.get_backend_for_model("vllm_unlisted") == "vllm"


@pytest.mark.parametrize(
    "failure",
    [
        Fail(grpc.StatusCode.UNAVAILABLE, "no", "X"),
        Fail(grpc.StatusCode.UNIMPLEMENTED, "what is this"),
        Fail(grpc.StatusCode.UNAUTHENTICATED, "who\x1b[2J are you"),
    ],
)
def test_a_registry_that_cannot_be_filled_is_empty(
    failure: Fail, default_target: str, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    script.enqueue(models("hf_a"), failure)
    backends.initialize_llm_registry()
    assert backends.initialize_llm_registry() == {}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("the model registry is empty: ")
    assert record.getMessage().isprintable()


def test_a_malformed_target_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ARENA_LLM_TARGET", "http://localhost:50050")
    assert backends.initialize_llm_registry() == {}
    assert "INVALID_TARGET" in caplog.text


def test_missing_backends_are_logged(
    default_target: str, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    script.enqueue(models("hf_a", unreachable=("vllm",)))
    assert list(backends.initialize_llm_registry()) == ["hf_a"]
    assert "lacks the models of vllm: start vllm" in caplog.text


def test_the_printed_list(
    default_target: str, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    backends.LLM_REGISTRY.clear()
    backends.list_models()
    assert capsys.readouterr().out == "No models registered.\n"


@pytest.mark.parametrize(("name", "backend"), list(zip(MODELS, CLASSES, strict=True)))
def test_backends_by_prefix(name: str, backend: str) -> None:
    assert llm_registry.detect_model_backend(name) == backend
    assert backend + "_" + llm_registry.extract_model_name(name) == name


@pytest.mark.parametrize("ask", [backends.detect_model_backend, backends.extract_model_name])
@pytest.mark.parametrize("name", ["", "gpt2", "_gpt2", "hf_", "HF_gpt2", "hf-gpt2", "org/my_model"])
def test_a_name_without_a_prefix(name: str, ask) -> None:
    with pytest.raises(errors.NotFoundError) as caught:
        ask(name)
    assert isinstance(caught.value, ValueError)  # as the original raised
    assert caught.value.reason == "UNKNOWN_PREFIX"
    assert "such as openrouter_ or hf_" in str(caught.value)


def test_a_backend_that_only_the_router_knows() -> None:
    assert backends.detect_model_backend("azure_gpt_4o") == "azure"
    assert backends.extract_model_name("azure_gpt_4o") == "gpt_4o"


def test_an_unknown_prefix_of_a_call(default_target: str, script: Script) -> None:
    script.enqueue(
        Fail(grpc.StatusCode.NOT_FOUND, "no backend serves gpt2", "UNKNOWN_PREFIX", "model"),
        Fail(grpc.StatusCode.NOT_FOUND, "no such model", "MODEL_NOT_FOUND", "model"),
    )
    with pytest.raises(ValueError, match="no backend serves gpt2") as caught:
        backends.generate_response("gpt2", "hi")
    assert isinstance(caught.value, errors.NotFoundError)
    assert (caught.value.reason, caught.value.model) == ("UNKNOWN_PREFIX", "gpt2")
    with pytest.raises(errors.NotFoundError) as other:
        backends.generate_response("hf_gpt2", "hi")
    assert not isinstance(other.value, ValueError)


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backend_config.config is config
    monkeypatch.setenv("OPENROUTER_API_KEY", " k \n")
    assert config.get_api_key("openrouter") == config.get_api_key(provider="OpenRouter") == "k"
    for value in ("", "  "):
        monkeypatch.setenv("TOGETHER_AI_API_KEY", value)
        with pytest.raises(ValueError, match="set TOGETHER_AI_API_KEY"):
            config.get_api_key("together-ai")
