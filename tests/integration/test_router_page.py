"""The router's page in a real browser, and the same in the terminal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from arena_llm import ArenaError, Client
from deploy.commands import _list_lost
from tests.support.browser import chromium, complaints, requests
from tests.support.ports import free_ports
from tests.support.processes import ServiceProcess, router_process, scripted_process


class Watched(NamedTuple):
    """A router with two replicas of hf, that has answered three calls and refused one."""

    page: str
    target: str
    router: ServiceProcess
    replicas: list[ServiceProcess]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    target, metrics, *addresses = (f"127.0.0.1:{port}" for port in free_ports(4))
    config = tmp_path_factory.mktemp("router") / "router.yaml"
    routes = {"hf_": {"targets": addresses}}
    config.write_text(json.dumps({"listen": target, "metrics": metrics, "routes": routes}))
    with contextlib.ExitStack() as stack:
        replicas = [stack.enter_context(scripted_process(one, "hf")) for one in addresses]
        router = stack.enter_context(router_process(target, config))
        with Client(target) as llm:
            for number in range(3):
                llm.generate("hf_model", "move", session=f"game-{number}")
            with contextlib.suppress(ArenaError):
                llm.generate("hf_model", "bug")
        with grpc.insecure_channel(target) as channel, contextlib.suppress(grpc.RpcError):
            channel.unary_unary("/arena_llm.v1.LlmService/Generate")(b"\xff")  # has no model
        yield Watched(f"http://{metrics}", target, router, replicas)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def text_of(driver: Chrome, place: str) -> str:
    return driver.find_element(By.ID, place).text


def until(condition: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_page_is_live(watched: Watched, browser: Chrome, tmp_path: Path) -> None:
    browser.get(watched.page)
    until(lambda: "serving" in text_of(browser, "backends"))
    assert "hf (2 of 2)" in text_of(browser, "backends")
    (model,) = [line for line in text_of(browser, "models").splitlines() if "hf_model" in line]
    assert re.search(r"\bms\b.*\b4 1 \$0\.00$", model)  # calls, failed, cost
    assert "no calls with a token" in text_of(browser, "clients")

    # It shows the next call, while and after it runs, and the loss of a replica without being
    # loaded again.
    running = tmp_path / "running"
    with Client(watched.target) as llm, ThreadPoolExecutor(1) as thread:
        call = thread.submit(llm.generate, "hf_model", f"until {running}")
        until(lambda: "hf_model 1 " in text_of(browser, "models"))
        running.touch()
        call.result()
    until(lambda: " 5 1 $0.00" in text_of(browser, "models"))
    until(lambda: "hf_model 0 " in text_of(browser, "models"))
    watched.replicas[1].kill()
    until(lambda: "hf (1 of 2)" in text_of(browser, "backends"))
    (lost,) = [line for line in text_of(browser, "backends").splitlines() if "unreachable" in line]
    other, gone = (replica.address for replica in watched.replicas)
    assert gone in lost
    assert other not in lost
    watched.replicas[1].start()
    until(lambda: "hf (2 of 2)" in text_of(browser, "backends"))

    # Nothing comes from elsewhere, and nothing breaks the page's own policy.
    assert {url.rpartition("/")[0] for url in requests(browser) if url.startswith("http")} == {
        watched.page
    }
    assert not [line for line in complaints(browser) if "favicon" not in line]


def test_the_terminal_shows_the_same(watched: Watched) -> None:
    def top(*options: str, columns: int | None = 160) -> subprocess.CompletedProcess[str]:
        others = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        return subprocess.run(
            [sys.executable, "-c", "from arena_llm.cli import main; exit(main())", "top", *options],
            env=others if columns is None else {**others, "COLUMNS": str(columns)},
            capture_output=True,
            text=True,
            check=False,
        )

    shown = top("--page", watched.page)
    assert shown.returncode == 0, shown.stderr
    assert "hf (2 of 2)" in shown.stdout
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("hf_model ")]
    with urllib.request.urlopen(f"{watched.page}/status.json") as answer:  # noqa: S310 - http
        (model,) = json.load(answer)["models"]
    assert line.split()[-3:] == [str(int(model["calls"])), "1", "$0.00"]
    assert line.split()[1] == "0"  # in flight
    assert json.loads(top("--json", "--page", watched.page).stdout)["in_flight"] == 0

    # A pipe has lines of any length.
    piped = top("--page", watched.page, columns=None).stdout
    assert re.search("^0 calls in flight.* since the router started$", piped, re.MULTILINE)

    # A terminal of 80 columns still has room for a name.
    assert "\nhf_model " in top("--page", watched.page, columns=80).stdout

    nowhere = top("--page", "127.0.0.1:1")
    assert nowhere.returncode == 1
    assert "no router shows its state at http://127.0.0.1:1/status.json" in nowhere.stderr


def test_a_lost_replica_is_named_and_its_sessions_are_counted_as_moved(watched: Watched) -> None:
    def play() -> dict[str, str]:
        """A call of each session; who has answered."""
        with Client(watched.target) as llm:
            replies = {name: llm.generate("hf_model", "move", session=name) for name in games}
        return {name: reply.served_by.replica for name, reply in replies.items()}

    def count_moved() -> float:
        with urllib.request.urlopen(f"{watched.page}/metrics") as answer:  # noqa: S310 - http
            text = answer.read().decode()
        found = re.search(r'^arena_llm_sessions_moved_total\{backend="hf"\} (.+)$', text, re.M)
        return float(found[1]) if found else 0.0

    # So many that both replicas have some, on any ports.
    games = [f"game-{number}" for number in range(60)]
    homes, other = play(), watched.replicas[0].address
    gone = watched.replicas[1].address
    assert {gone, other} == {*homes.values()}
    before = count_moved()
    watched.replicas[1].kill()
    try:
        until(
            lambda: [*_list_lost(watched.target)] == [f"hf: 1 of 2 replicas: {gone} is unreachable"]
        )
        assert {*play().values()} == {other}
        assert count_moved() - before == sum(home == gone for home in homes.values())
    finally:
        watched.replicas[1].start()
    until(lambda: not [*_list_lost(watched.target)])
