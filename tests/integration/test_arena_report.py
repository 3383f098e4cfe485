"""The report's page in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import permutations
from pathlib import Path
from urllib.parse import urlencode

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from arena.report import Report, write_html
from arena.report.load import open_results
from arena.report.outcomes import outcome
from arena.report.replay import replay
from arena.results.rows import MoveRow
from tests.support.browser import chromium, complaints, requests
from tests.support.random_play import Played, asked, play, write
from tests.support.report_page import Page

AGENTS = ("hf_one", "litellm_maker/two-instruct", "random")
GAMES = ("tic_tac_toe", "connect_four", "hex(board_size=4)", "breakthrough(rows=5,columns=4)")
#: The signs of pieces on these boards.
PIECES = re.compile(r"[xobw]")
HOSTILE = "</script><script>pwned=1</script><img src=x onerror=pwned=1>\x1b[31m\x00\u202e &lt;"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def answered(row: MoveRow) -> list[MoveRow]:
    """hf_one's first answer of a game is illegal; a random player answers nothing."""
    if row.agent == "random":
        return [row]
    if row.agent == "hf_one" and row.ply == 0:
        lost = {"action": None, "action_text": None, "policy": "retry", "problem": "z9 is no move"}
        return [asked(row, status="illegal", reply="z9!", **lost), asked(row, attempt=1)]
    return [asked(row)]


def tournament() -> list[Played]:
    """Games with boards, cards and simultaneous moves; a forfeit, a failure."""
    pairs = list(permutations(AGENTS, 2))
    played = [play(game, pair, 0, answered) for game in GAMES for pair in pairs]
    played += [play("kuhn_poker", pair, number, answered) for pair in pairs for number in range(3)]
    played += [play("matrix_rps", pair, number, answered) for pair in pairs for number in range(18)]
    forfeited, failed = (play("tic_tac_toe", AGENTS[:2], number, answered) for number in (1, 2))
    gave_up = replace(forfeited.moves[0], policy="forfeit")
    played.append(
        Played(
            replace(
                forfeited.row, status="forfeited", loser=0, reason="no legal answer", returns=None
            ),
            (gave_up,),
        )
    )
    error = replace(
        failed.moves[3], status="error", problem="UNAVAILABLE BACKEND_DOWN hf", action=None
    )
    played.append(
        Played(
            replace(failed.row, status="failed", reason=error.problem, returns=None),
            (*failed.moves[:3], error),
        )
    )
    return played


def made(driver: Chrome, folder: Path, played: Sequence[Played]) -> Page:
    report = Report.load(write(folder / "results.db", played))
    write_html(report, folder / "report.html")
    return Page(driver, folder / "report.html", played)


@pytest.fixture(scope="module")
def page(browser: Chrome, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return made(browser, tmp_path_factory.mktemp("report"), tournament())


def test_arrow_keys_step_through_a_game_move_by_move(page: Page) -> None:
    game = next(found for found in page.played if found.row.agents == AGENTS[:2])
    steps = len(game.moves)
    page.open(episode=game.row.episode)
    for number, move in enumerate(game.moves, 1):
        page.at(f"{number} / {steps}")
        assert page.board() == move.board
        assert f"move={number}" in page.driver.current_url or number == 1
        assert page.find("#answer .tag")[0].text == move.status
        assert page.block("Prompt") == move.prompt
        assert page.block("Reasoning") == move.reasoning
        assert page.block("Reply") == move.reply
        chips = [chip.get_property("textContent") for chip in page.find(".chips span")]
        assert chips == [text for _, text in move.legal_actions or ()]
        assert [chip.get_property("textContent") for chip in page.find(".chips .chosen")] == (
            [move.action_text] if move.action_text else []
        )
        page.press(Keys.ARROW_RIGHT)
    page.at(f"end of {steps}")
    assert page.board() == replay(game.row, game.moves).board
    assert "The game is over." in page.text("#answer")
    page.press(Keys.ARROW_LEFT)
    page.at(f"{steps} / {steps}")
    shifted = ActionChains(page.driver).key_down(Keys.SHIFT).send_keys(Keys.ARROW_LEFT)
    shifted.key_up(Keys.SHIFT).perform()
    page.at(f"1 / {steps}")


def test_a_refused_answer_says_what_was_wrong_and_what_was_done(page: Page) -> None:
    game = next(found for found in page.played if found.row.agents[0] == "hf_one")
    page.open(episode=game.row.episode, move=1)
    said = page.text("#answer")
    assert "illegal" in said
    assert "z9 is no move" in said
    assert "then: retry" in said
    page.press(Keys.ARROW_RIGHT)
    page.at(f"2 / {len(game.moves)}")
    assert "answer 2 of this turn" in page.text("#answer")


@pytest.mark.parametrize("game", GAMES)
def test_a_board_is_a_picture_with_all_its_pieces(page: Page, game: str) -> None:
    found = next(one for one in page.played if one.row.game.split("(")[0] == game.split("(")[0])
    page.open(episode=found.row.episode, move=len(found.moves))
    board = found.moves[-1].board or ""
    pieces = ":is(.stroke, .one, .two, .white, .black, .hexone, .hextwo)"
    assert len(page.find(f".frame svg g:not(.ghost) > {pieces}")) == len(
        PIECES.findall(board.partition("\n")[2])
    )  # without the columns' names
    assert len(page.find(".frame svg .ghost")) == 1  # where the move goes
    assert page.find(".frame svg .next")


def test_cards_and_simultaneous_moves(page: Page) -> None:
    poker = next(found for found in page.played if found.row.game == "kuhn_poker")
    page.open(episode=poker.row.episode)
    assert "Chance" in page.text("#answer")
    assert page.find(".frame pre")
    both = next(found for found in page.played if found.row.game == "matrix_rps")
    page.open(episode=both.row.episode)
    plies = [found.get_property("textContent") for found in page.find(".moves .ply")]
    assert plies == [*(str(move.ply) for move in both.moves), ""]


def test_an_address_leads_to_a_position_and_stays(page: Page) -> None:
    game = page.played[7]
    page.open(episode=game.row.episode, move=4)
    page.at(f"4 / {len(game.moves)}")
    page.press(Keys.ARROW_RIGHT)
    page.at(f"5 / {len(game.moves)}")
    address = page.driver.current_url
    page.driver.get("about:blank")
    page.driver.get(address)
    page.at(f"5 / {len(game.moves)}")
    assert page.text("#episodes [aria-current] .head").startswith(game.row.game)
    page.script("location.hash = arguments[0]", urlencode({"episode": "no such one"}))
    page.until(lambda: "no episode no such one" in page.text("#stage"))


def test_the_next_episode_is_one_key_away(page: Page) -> None:
    page.open(game="kuhn_poker")
    ids = [found.get_attribute("data-id") for found in page.find("#episodes a")]
    assert len(ids) == 18
    for key, place in (("n", 1), ("n", 2), ("p", 1)):
        page.press(key)
        page.until(partial(page.find, f'#episodes a[data-id="{ids[place]}"][aria-current]'))


def test_a_game_plays_by_itself_to_its_end(page: Page) -> None:
    game = next(found for found in page.played if found.row.game == "matrix_rps")
    page.open(episode=game.row.episode)
    page.press(" ")
    page.at(f"end of {len(game.moves)}")


@pytest.mark.parametrize("result", ["win", "draw", "loss", "forfeited", "failed", "illegal"])
def test_filters_find_what_the_rows_say(page: Page, result: str) -> None:
    def fits(found: Played) -> bool:
        seat = found.row.agents.index("hf_one")
        if result == "forfeited":
            return found.row.loser == seat
        if result == "illegal":
            return any(move.seat == seat and move.status == "illegal" for move in found.moves)
        return outcome(found.row, seat) == result

    expected = sum(fits(found) for found in page.played if "hf_one" in found.row.agents)
    assert expected
    page.open()
    Select(page.one("[name=player]")).select_by_visible_text("hf_one")
    Select(page.one("[name=outcome]")).select_by_value(result)
    page.until(lambda: page.count() == f"{expected} of {len(page.played)} episodes")
    shown = page.find("#episodes a")
    assert len(shown) == expected
    assert f"outcome={result}" in page.driver.current_url


def test_a_long_list_grows_when_asked(page: Page) -> None:
    page.open()
    assert len(page.played) > 100
    assert len(page.find("#episodes a")) == 100
    page.script("arguments[0].click()", page.one("#episodes button"))
    page.until(lambda: len(page.find("#episodes a")) == len(page.played))
    assert not page.find("#episodes button")


def test_a_cell_of_the_heat_map_opens_its_replays(page: Page) -> None:
    page.open()
    (cell,) = [
        found
        for found in page.find(".heat a")
        if (found.get_attribute("title") or "").startswith("random, kuhn_poker: ")
    ]
    page.script("arguments[0].click()", cell)
    page.until(lambda: page.count().startswith("12 of "))
    assert page.one("[name=game]").get_property("value") == "kuhn_poker"
    page.until(
        lambda: page.script(
            "return document.getElementById('replays').getBoundingClientRect().top < innerHeight"
        )
    )


def test_the_tables_show_the_counts_of_the_chosen_game(page: Page) -> None:
    page.open()
    with open_results(page.path.with_name("results.db")) as results:
        rows = results.episodes
    for game in ("all games", "matrix_rps"):
        Select(page.one("#panel")).select_by_visible_text(game)
        shown = {
            str(row.find_element(By.TAG_NAME, "th").text.split("\n")[0]): [
                cell.text.split(" ")[0] for cell in row.find_elements(By.CSS_SELECTOR, "td.num")
            ]
            for row in page.find("#outcomes tbody:not([hidden]) tr")
        }
        for agent in AGENTS:
            found = [
                str(outcome(row, seat))
                for row in rows
                for seat in range(2)
                if row.agents[seat] == agent and game in ("all games", row.game)
            ]
            counts = [found.count(name) for name in ("win", "draw", "loss")]
            assert shown[agent][:4] == [str(number) for number in (sum(counts), *counts)]


def test_a_click_sorts_a_table(page: Page) -> None:
    page.open()
    header = page.find("#calls thead th")[1]
    for direction, reverse in (("descending", True), ("ascending", False)):
        page.script("arguments[0].click()", header)
        assert header.get_attribute("aria-sort") == direction
        calls = [
            int(cell.text.replace(",", ""))
            for cell in page.find("#calls tbody:not([hidden]) td:nth-child(2)")
        ]
        assert len(calls) == 2
        assert calls == sorted(calls, reverse=reverse)


def test_it_is_light_or_dark_as_the_reader_has_it_or_wants_it(page: Page) -> None:
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


def test_it_asks_nothing_of_any_network_and_has_no_complaint(page: Page) -> None:
    complaints(page.driver)
    requests(page.driver)
    page.open(episode=page.played[0].row.episode)
    asked_for = {url.partition("#")[0] for url in requests(page.driver)}
    assert page.path.as_uri() in asked_for
    assert asked_for - {page.path.as_uri()} <= {"about:blank", "data:,"}
    assert complaints(page.driver) == []
    # The policy holds even for what would run inside the page.
    failed = page.script(
        "return new Promise((done) => { const image = new Image();"
        " image.onerror = () => done('refused'); image.onload = () => done('loaded');"
        " image.src = arguments[0]; })",
        page.path.as_uri() + "?.png",
    )
    assert failed == "refused"
    assert any("Content Security Policy" in text for text in complaints(page.driver))


def test_hostile_answers_are_text(browser: Chrome, tmp_path: Path) -> None:
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
    # Control characters and changes of direction are to be seen.
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
        ([], "No episode fits."),
        (failures(), "The episode failed: it has no result."),
        ([play("matrix_rps", ("hf_one", "hf_one"), 0)], "plays"),
    ],
    ids=["nothing", "failed only", "one player"],
)
def test_there_is_a_page_for_little(
    browser: Chrome, tmp_path: Path, played: list[Played], words: str
) -> None:
    complaints(browser)
    page = made(browser, tmp_path, played).open()
    assert words in page.text("#stage")
    assert complaints(browser) == []
