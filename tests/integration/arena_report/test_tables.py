"""The tables of the report's page and its list of episodes, in a real browser."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from arena.report.load import open_results
from arena.report.outcomes import find_outcome
from tests.support.random_play import Played
from tests.support.report_page import Page
from tests.support.tournament import AGENTS


@pytest.mark.parametrize("result", ["win", "draw", "loss", "forfeited", "failed", "illegal"])
def test_filters_list_the_matching_episodes(page: Page, result: str) -> None:
    def fits(found: Played) -> bool:
        seat = found.row.agents.index("hf_one")
        if result == "forfeited":
            return found.row.loser == seat
        if result == "illegal":
            return any(move.seat == seat and move.status == "illegal" for move in found.moves)
        return find_outcome(found.row, seat) == result

    expected = sum(fits(found) for found in page.played if "hf_one" in found.row.agents)
    assert expected
    page.open()
    Select(page.one("[name=player]")).select_by_visible_text("hf_one")
    Select(page.one("[name=outcome]")).select_by_value(result)
    page.until(lambda: page.count() == f"{expected} of {len(page.played)} episodes")
    shown = page.find("#episodes a")
    assert len(shown) == expected
    assert f"outcome={result}" in page.driver.current_url


def test_a_long_list_grows_on_request(page: Page) -> None:
    page.open()
    assert len(page.played) > 100
    assert len(page.find("#episodes a")) == 100
    page.script("arguments[0].click()", page.one("#episodes button"))
    page.until(lambda: len(page.find("#episodes a")) == len(page.played))
    assert not page.find("#episodes button")


def test_a_cell_of_the_heat_map_opens_its_replays(page: Page) -> None:
    page.open()
    cell = page.one(".heat td[title^='random, kuhn_poker: '] a")
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
        rows = list(results.first(None))
    for game in ("all games", "matrix_rps"):
        Select(page.one("#panel")).select_by_visible_text(game)
        shown = {
            str(row.find_element(By.TAG_NAME, "th").text.split("\n")[0]): [
                cell.text.split(" ")[0] for cell in row.find_elements(By.CSS_SELECTOR, "td.num")
            ]
            for row in page.find("#outcomes tbody:not([hidden]) tr")
        }
        for agent in AGENTS:
            outcomes = [
                str(find_outcome(row, seat))
                for row in rows
                for seat in range(2)
                if row.agents[seat] == agent and game in ("all games", row.game)
            ]
            counts = [outcomes.count(name) for name in ("win", "draw", "loss")]
            games, _score, *found = shown[agent][:5]
            assert [games, *found] == [str(number) for number in (sum(counts), *counts)]


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
