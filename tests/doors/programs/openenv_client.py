"""OpenEnv's client plays our games over OpenEnv's server."""

import importlib.metadata
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from checks import run
from openenv.core import GenericEnvClient

from arena.environments.openenv import make_app


@contextmanager
def serve(game: str, **options: object) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(make_app(game, **options), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def connect(address: str) -> Any:
    return GenericEnvClient(base_url=address).sync()


def play(address: str, seed: int) -> tuple[list[str], float]:
    """Play the first legal action of each turn."""
    texts = []
    with connect(address) as client:
        result = client.reset(seed=seed)
        while not result.done:
            texts.append(result.observation["messages"][-1]["content"])
            number = int(next(iter(result.observation["legal"])))
            result = client.step({"action": number})
        return texts, result.reward


def check_an_episode_and_its_seed() -> None:
    with serve("leduc_poker") as address:
        first, again = play(address, 3), play(address, 3)
        assert first == again
        assert len({play(address, seed)[0][0] for seed in range(12)}) > 1


def check_text_and_an_opponent() -> None:
    options = {"opponents": {0: {"type": "random"}}}
    with serve("tic_tac_toe", **options) as address, connect(address) as client:
        result = client.reset(seed=1)
        assert result.observation["seat"] == 1
        name = next(iter(result.observation["legal"].values()))
        result = client.step({"text": f'{{"action": "{name}"}}'})
        assert not result.done
        result = client.step({"text": "no move"})
        assert result.done
        assert result.observation["status"] == "forfeited"
        assert result.reward == -1.0
        assert client.state()["game"] == "tic_tac_toe"


def check_a_wrong_action_is_an_error() -> None:
    for wrong in ({"move": 1}, {"action": 99}, {}):
        with serve("tic_tac_toe") as address, connect(address) as client:
            client.reset(seed=1)
            try:
                client.step(wrong)
            except Exception as error:
                print(f"{wrong}: {error}")
            else:
                raise AssertionError(f"{wrong} was played")


run(globals(), f"openenv {importlib.metadata.version('openenv')}")
