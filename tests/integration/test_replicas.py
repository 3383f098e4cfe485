"""Two replicas behind one route: which policy finds a game's prompts in the prefix cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from arena_llm import Client
from tests.support.processes import ServiceProcess, router_process
from tests.support.system import free_ports
from tests.support.tiny_models import make_checkpoint

MODEL = "hf_tiny"
#: An odd number, or round robin would give each game's turns to the same replica.
GAMES, PLIES = 5, 6
_MOVE = "The player to move thinks about the board and takes cell {}. "


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The addresses of two hf services with the same model."""
    folder = tmp_path_factory.mktemp("replicas")
    entry = {"name": MODEL, "model_path": str(make_checkpoint(folder / "tiny", "llama"))}
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    with ExitStack() as stack:
        for number, address in enumerate(addresses):
            config = folder / f"{number}.yaml"
            config.write_text(
                yaml.safe_dump({"listen": address, "device": "cpu", "models": [entry]})
            )
            arguments = ("-m", "services.hf", "--config", str(config))
            stack.enter_context(ServiceProcess(address, *arguments))
        yield addresses


def _cached_share(replicas: list[str], policy: str, folder: Path) -> float:
    """The share of prompt tokens that came from a cache, in games whose prompts grow."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    route = {"targets": replicas, "policy": policy}
    config = folder / f"{policy}.yaml"
    config.write_text(yaml.safe_dump({"listen": address, "routes": {"hf_": route}}))
    prompt_tokens = cached_tokens = 0
    with router_process(address, config), Client(address) as llm:
        for ply in range(PLIES):
            for game in (f"{policy} {number}" for number in range(GAMES)):
                history = "".join(_MOVE.format(cell) for cell in range(ply))
                prompt = f"{game}. {history}Your move?"
                usage = llm.generate(MODEL, prompt, choices=["0", "1"], session=game).usage
                prompt_tokens += usage.prompt_tokens
                cached_tokens += usage.cached_tokens
    return cached_tokens / prompt_tokens


def test_a_session_stays_where_its_prefix_is(replicas: list[str], tmp_path: Path) -> None:
    shares = {
        policy: _cached_share(replicas, policy, tmp_path) for policy in ("session", "round_robin")
    }
    assert shares["round_robin"] > 0
    assert shares["session"] > 1.2 * shares["round_robin"], shares
