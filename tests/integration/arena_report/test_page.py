"""The report's page in a real browser: colours, sizes, safety, and pages with few episodes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, Keys

from arena.results.rows import MoveRow
from tests.support.browser import complaints, requests
from tests.support.random_play import Played, asked, play
from tests.support.report_page import Page, made

HOSTILE = "</script><script>pwned=1</script><img src=x onerror=pwned=1>\x1b[31m\x00\u202e &lt;"


def test_it_is_light_or_dark_by_the_systems_or_the_readers_choice(page: Page) -> None:
    def brightness() -> int:
        colour = page.script("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    try:
        for scheme, light in (("light", True), ("dark", False)):
            page.driver.execute_cdp_cmd(
                "Emulation.setEmulatedMedia",
                {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
            )
            page.open()
            assert (brightness() > 600) == light
            page.one("#scheme").click()
            assert (brightness() > 600) != light
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("width", [400, 1000, 1600])
def test_it_fits_the_window(page: Page, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    try:
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        page.open(episode=page.played[0].row.episode, move=2)
        assert page.script("return document.documentElement.scrollWidth") <= width
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_makes_no_requests_and_logs_no_errors(page: Page) -> None:
    complaints(page.driver)
    requests(page.driver)
    page.open(episode=page.played[0].row.episode)
    asked_for = {url.partition("#")[0] for url in requests(page.driver)}
    assert page.path.as_uri() in asked_for
    assert asked_for - {page.path.as_uri()} <= {"about:blank", "data:,"}
    assert complaints(page.driver) == []
    # The policy also applies to scripts inside the page.
    failed = page.script(
        "return new Promise((done) => { const image = new Image();"
        " image.onerror = () => done('refused'); image.onload = () => done('loaded');"
        " image.src = arguments[0]; })",
        page.path.as_uri() + "?.png",
    )
    assert failed == "refused"
    assert any("Content Security Policy" in text for text in complaints(page.driver))


def test_hostile_answers_are_shown_as_text(browser: Chrome, tmp_path: Path) -> None:
    long = HOSTILE + "x" * 1_000_000 + "the end"

    def hostile(row: MoveRow) -> list[MoveRow]:
        wrong = {"problem": HOSTILE, "policy": "retry", "action": None, "action_text": None}
        bad = asked(
            row, status="unparseable", reply=HOSTILE, reasoning=HOSTILE, prompt=HOSTILE, **wrong
        )
        return [bad, asked(row, attempt=1, reply=long, model=HOSTILE)]

    game = play("tic_tac_toe", (f"hf_{HOSTILE}", "hf_two"), 0, hostile)
    complaints(browser)
    page = made(browser, tmp_path, [game]).open(episode=game.row.episode)
    # Control characters and changes of direction are visible.
    seen = HOSTILE.replace("\x1b", "\u241b").replace("\x00", "\u2400").replace("\u202e", "\ufffd")
    for title in ("Prompt", "Reasoning", "Reply"):
        assert page.block(title) == seen
    assert seen in page.text("#answer .problem")
    assert seen in page.text(".players")
    page.press(Keys.ARROW_RIGHT)
    page.at(f"2 / {len(game.moves)}")
    reply = page.block("Reply")
    assert reply.startswith(seen)
    assert reply.endswith("the end")
    assert "characters are left out" in reply
    assert len(reply) < 25_000
    assert page.script("return typeof pwned") == "undefined"
    assert complaints(browser) == []


def failures() -> list[Played]:
    game = play("tic_tac_toe", ("hf_one", "hf_two"), 0)
    return [Played(replace(game.row, status="failed", reason="A B c", returns=None), ())]


@pytest.mark.parametrize(
    ("played", "words"),
    [
        ([], "No episode matches."),
        (failures(), "The episode failed and has no result."),
        ([play("matrix_rps", ("hf_one", "hf_one"), 0)], "plays"),
    ],
    ids=["nothing", "failed only", "one player"],
)
def test_a_page_with_few_episodes(
    browser: Chrome, tmp_path: Path, played: list[Played], words: str
) -> None:
    complaints(browser)
    page = made(browser, tmp_path, played).open()
    assert words in page.text("#stage")
    assert complaints(browser) == []
