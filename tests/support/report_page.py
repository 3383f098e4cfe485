"""A report's page in a browser, for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from arena.report.embed import Report
from arena.report.page import write_html
from tests.support.random_play import Played, write

T = TypeVar("T")


@dataclass
class Page:
    """A report in the browser."""

    driver: Chrome
    path: Path
    played: Sequence[Played]

    def open(self, **address: object) -> Page:
        # The browser does not reload a page if only the part after # changes.
        self.driver.get("about:blank")
        self.driver.get(
            f"{self.path.as_uri()}#{urlencode(address)}" if address else self.path.as_uri()
        )
        self.until(lambda: self.find("#stage > *"))
        return self

    def find(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        (found,) = self.find(selector)
        return found

    def text(self, selector: str) -> str:
        return str(self.one(selector).get_property("textContent"))

    def until(self, condition: Callable[[], T]) -> T:
        return WebDriverWait(self.driver, 60, 0.02).until(lambda _: condition())

    def at(self, position: str) -> None:
        """Wait until the replay shows a position, such as "2 / 9"."""
        self.until(lambda: self.find(".controls output") and self.text("output") == position)

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def board(self) -> str:
        """The board's text. A picture has it as its label."""
        (shown,) = self.find(".frame > *")
        return shown.get_attribute("aria-label") or str(shown.get_property("textContent"))

    def count(self) -> str:
        return self.text("#count")

    def script(self, code: str, *arguments: object) -> Any:
        return self.driver.execute_script(code, *arguments)

    def block(self, title: str) -> str:
        """The text of the replay's card with this title."""
        (card,) = [
            found
            for found in self.find("#answer .card")
            if str(found.get_property("textContent")).startswith(title)
        ]
        return str(card.find_element(By.TAG_NAME, "pre").get_property("textContent"))


def made(driver: Chrome, folder: Path, played: Sequence[Played]) -> Page:
    report = Report.load(write(folder / "results.db", played))
    write_html(report, folder / "report.html")
    return Page(driver, folder / "report.html", played)
