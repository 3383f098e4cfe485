"""Take the pictures of the documentation again: `python -m docs.images.take`.

Does what the README says: `make up`, a game with the client, the demo and its report; then a longer
experiment, for the pages that show what runs. Takes five minutes and needs Debian's Chromium. The
system must be down, so that the pictures show the default ports.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome

from deploy.services import ROOT
from docs.images.terminal import PROMPT, Terminal
from tests.support.browser import chromium
from tests.support.waiting import wait_until

IMAGES = Path(__file__).parent
EXPERIMENT = "docs/images/games.yaml"
FOLDER = ".run/pictures"
WIDTH, HEIGHT = 1200, 900
#: Variables that change what a command prints.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("ARENA_")}

GAME = """\
import pyspiel
from arena_llm import Client
llm = Client()
state = pyspiel.load_game("tic_tac_toe").new_initial_state()
while not state.is_terminal():
    moves = [state.action_to_string(action) for action in state.legal_actions()]
    prompt = f"Tic-tac-toe:\\n{state}\\nYour move, one of {moves}?"
    reply = llm.generate("hf_smollm2-135m-instruct", prompt, choices=moves)
    state.apply_action(state.string_to_action(reply.text))

print(state)
state.returns(), reply.usage.prompt_tokens, reply.usage.cost_usd
"""


def main() -> None:
    """Start the services, take all pictures, and stop the services."""
    if (ROOT / ".run" / "supervisord.pid").exists():
        sys.exit("the services run already: make down")
    shutil.rmtree(ROOT / FOLDER, ignore_errors=True)
    try:
        show_start()
        show_game()
        show_experiment()
        show_report()
        with TemporaryDirectory() as profile, chromium(Path(profile)) as driver:
            driver.set_window_size(WIDTH, HEIGHT)
            driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
            take(driver, (ROOT / FOLDER / "demo/arena.html").as_uri(), "report.png")
            with playing():
                show_pages(driver)
    finally:
        subprocess.run(["make", "down"], cwd=ROOT, env=ENVIRONMENT, check=False)
        shutil.rmtree(ROOT / FOLDER, ignore_errors=True)


def show_start() -> None:
    """What `make up` prints."""
    with Terminal(ENVIRONMENT, ROOT) as terminal:
        terminal.run("make up")
        terminal.draw("make up", IMAGES / "up.svg", slice(-1))


def show_game() -> None:
    """A game that is typed into Python."""
    with Terminal(ENVIRONMENT, ROOT) as terminal:
        terminal.run(".venv/bin/python -q", ">>>")
        inside = False
        for line in GAME.splitlines():
            inside = line.endswith(":") or (inside and bool(line))
            terminal.run(line, "..." if inside else ">>>")
        terminal.draw("Python", IMAGES / "game.svg", slice(-1))


def show_experiment() -> None:
    """The demo while it is played."""
    with Terminal(ENVIRONMENT, ROOT) as terminal:
        command = ".venv/bin/arena run --config configs/experiments/smoke.yaml --results"
        terminal.type(f"{command} {FOLDER}/demo")
        half = re.compile(r"(6|7|8|9|10|11)/12 games")  # several games may end together
        terminal.wait(lambda: half.search(terminal.screen.text()))
        terminal.draw("arena run", IMAGES / "run.svg")
        terminal.wait(lambda: terminal.screen.line() == PROMPT)


def show_report() -> None:
    """The first tables of the demo's report."""
    with Terminal(ENVIRONMENT, ROOT) as terminal:
        terminal.run(f".venv/bin/arena report {FOLDER}/demo/arena.sqlite")
        end = terminal.screen.text().split("\n").index("Wins, draws, losses")
        terminal.draw("arena report", IMAGES / "report.svg", slice(end - 1))


@contextmanager
def playing() -> Iterator[None]:
    """Play the longer experiment, and serve its live page."""
    options = ["--config", EXPERIMENT, "--results", f"{FOLDER}/games"]
    processes = []
    try:
        for command in ("run", "live"):
            arguments = [sys.executable, "-m", "arena.cli", command, *options]
            processes.append(
                subprocess.Popen(arguments, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
            )
        yield
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def show_pages(driver: Chrome) -> None:
    """A game of chess on the live page, and the traffic that it makes, in browser and terminal."""

    wait_until(lambda: open_page(driver, "http://127.0.0.1:50081/"), 60)
    choose = """const link = [...document.querySelectorAll("#running a")]
        .find((one) => one.innerText.includes("chess"));
        link?.click(); return Boolean(link)"""
    wait_until(lambda: driver.execute_script(choose), 120)
    count = "return document.querySelectorAll('#moves li').length"
    wait_until(lambda: driver.execute_script(count) >= 16, 300)
    driver.save_screenshot(str(IMAGES / "live.png"))
    driver.set_window_size(WIDTH, HEIGHT - 160)  # the page is short
    take(driver, "http://127.0.0.1:50150/", "router.png", "#models td")
    with Terminal(ENVIRONMENT, ROOT) as terminal:
        terminal.type(".venv/bin/arena-llm top")
        terminal.wait(lambda: "rates and quantiles" in terminal.screen.text())
        terminal.draw("arena-llm top", IMAGES / "top.svg")
        terminal.interrupt()


def open_page(driver: Chrome, url: str) -> bool:
    """Whether the page is there."""
    try:
        driver.get(url)
    except WebDriverException:  # the server is starting
        return False
    return True


def take(driver: Chrome, url: str, name: str, shown: str = "body") -> None:
    """Save what a page shows in a window of fixed size."""
    driver.get(url)
    find = "return document.querySelector(arguments[0]) !== null"
    wait_until(lambda: driver.execute_script(find, shown), 30)
    driver.save_screenshot(str(IMAGES / name))


if __name__ == "__main__":
    main()
