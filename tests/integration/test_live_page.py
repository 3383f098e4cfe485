"""The live page in a real browser."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from arena.agents.calls import Ask, ModelCall, ModelReply
from arena.experiment.episode import play_episode, seat_players
from arena.experiment.file import Experiment
from arena.experiment.load import load_experiment
from arena.experiment.schedule import EpisodeSpec, schedule
from arena.games.game import Game
from arena.results.rows import CallKey
from arena.results.store import Store
from tests.support.browser import chromium, complaints, requests
from tests.support.guard import kill_at_exit
from tests.support.ports import free_ports
from tests.support.processes import scripted_process
from tests.support.waiting import wait_until

#: A name that must be shown as text.
HOSTILE = "<img src=x onerror=pwned=1>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("live")
    path = folder / "live.yaml"
    agents = {
        HOSTILE: {"type": "llm", "model": "hf_one"},
        "two": {"type": "llm", "model": "hf_two"},
    }
    config = {"games": ["tic_tac_toe"], "agents": agents, "results": str(folder)}
    path.write_text(json.dumps(config))
    return load_experiment(path)


@pytest.fixture(scope="module")
def address(experiment: Experiment) -> Iterator[str]:
    (port,) = free_ports(1)
    target = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "arena.cli", "live", "--listen", "127.0.0.1:0"]
    options = ["--config", str(experiment.path), "--target", target]
    with (
        scripted_process(target, "hf", "I resign"),  # no legal answer, so random ones are played
        subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as server,
    ):
        guard = kill_at_exit(server.pid)
        assert server.stdout is not None
        yield server.stdout.readline().split()[0]
        server.terminate()
        guard.cancel()


def text_of(driver: Chrome, selector: str) -> str:
    # In one script: the page may replace the element at any time.
    script = "return document.querySelector(arguments[0])?.innerText ?? ''"
    return str(driver.execute_script(script, selector))


def click(driver: Chrome, selector: str) -> None:
    driver.execute_script("document.querySelector(arguments[0]).click()", selector)


def play_stored(spec: EpisodeSpec, experiment: Experiment, say: Callable[[CallKey], str]) -> Any:
    """Play the episode with these replies, as a run does."""

    def ask_for(key: CallKey) -> Ask:
        async def ask(call: ModelCall) -> ModelReply:
            return ModelReply(say(key), call.model, 1.0)

        return ask

    seats = seat_players(spec, experiment.participants)
    return asyncio.run(play_episode(spec, Game.load(spec.game), seats, ask_for))


def test_a_running_game_shows_each_move(
    browser: Chrome, address: str, experiment: Experiment
) -> None:
    spec = schedule(experiment)[0]
    cells = ["x(0,0)", "o(1,0)", "x(0,1)", "o(1,1)", "x(0,2)"]
    browser.get(address)
    with Store(experiment.results, experiment.row, experiment.models) as store:

        def reply(ply: int) -> None:
            text = json.dumps({"action": cells[ply]})
            key = CallKey(spec.episode, ply, ply % 2, 0)
            store.put_call(key, "{}", ModelReply(text, "hf_one", 1.0))

        reply(0)
        wait_until(lambda: "tic_tac_toe #1" in text_of(browser, "#running"), 30)
        click(browser, "#running a")
        wait_until(lambda: "x(0,0)" in text_of(browser, "#moves"), 30)
        assert text_of(browser, "#stage h3") == "tic_tac_toe #1"
        assert len(browser.find_elements(By.CSS_SELECTOR, ".board .stroke")) == 1
        browser.execute_script("window.loaded = true")
        reply(1)
        reply(2)
        wait_until(lambda: "x(0,1)" in text_of(browser, "#moves"), 30)
        assert text_of(browser, "#status") == "running"
        store.put_episode(*play_stored(spec, experiment, lambda key: f'"{cells[key.ply]}"'))
        wait_until(lambda: text_of(browser, "#status") == "finished", 30)
    assert len(browser.find_elements(By.CSS_SELECTOR, ".board .stroke")) == 5
    assert "return 1" in text_of(browser, ".players")
    assert HOSTILE in text_of(browser, ".players")
    wait_until(lambda: "finished" in text_of(browser, "#latest"), 30)
    assert browser.execute_script("return window.loaded && typeof pwned") == "undefined"


@pytest.mark.parametrize("opponent", ["random", "hf_model"])
def test_a_person_plays_by_clicks(browser: Chrome, address: str, opponent: str) -> None:
    complaints(browser)
    requests(browser)
    browser.get("about:blank")
    browser.get(address)
    wait_until(lambda: opponent in text_of(browser, "#opponent"), 30)
    Select(browser.find_element(By.ID, "opponent")).select_by_value(opponent)
    click(browser, "#play button")
    for moves in range(0, 9, 2):
        wait_until(lambda: text_of(browser, "#status") in ("your turn", "ended"), 30)
        if text_of(browser, "#status") == "ended":
            break
        click(browser, ".actions button")
        played = moves + 1
        wait_until(lambda: text_of(browser, "#moves").count("you") * 2 > played, 30)  # noqa: B023 - called here
    wait_until(lambda: text_of(browser, "#status") == "ended", 30)
    assert "return" in text_of(browser, ".players")
    assert opponent in text_of(browser, ".players")
    # Nothing comes from elsewhere, and nothing breaks the page's own policy.
    asked = {url for url in requests(browser) if url.startswith("http")}
    assert asked
    assert all(url.startswith(address) for url in asked)
    assert complaints(browser) == []
