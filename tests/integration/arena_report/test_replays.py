"""The replays of the report's page in a real browser: positions, moves, answers."""

from __future__ import annotations

import re
from functools import partial
from urllib.parse import urlencode

import pytest
from selenium.webdriver import Keys
from selenium.webdriver.common.action_chains import ActionChains

from arena.report.replay import verify
from tests.support.report_page import Page
from tests.support.tournament import AGENTS, GAMES

#: The characters of pieces on these boards.
PIECES = re.compile(r"[xobw]")


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
    assert page.board() == verify(game.row, game.moves).board
    assert "The game is over." in page.text("#answer")
    page.press(Keys.ARROW_LEFT)
    page.at(f"{steps} / {steps}")
    shifted = ActionChains(page.driver).key_down(Keys.SHIFT).send_keys(Keys.ARROW_LEFT)
    shifted.key_up(Keys.SHIFT).perform()
    page.at(f"1 / {steps}")


def test_an_illegal_answer_shows_the_problem_and_the_policy(page: Page) -> None:
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
def test_a_board_is_drawn_with_all_its_pieces(page: Page, game: str) -> None:
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


def test_an_address_leads_to_its_position(page: Page) -> None:
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


def test_automatic_play_runs_to_the_end(page: Page) -> None:
    game = next(found for found in page.played if found.row.game == "matrix_rps")
    page.open(episode=game.row.episode)
    page.press(" ")
    page.at(f"end of {len(game.moves)}")
