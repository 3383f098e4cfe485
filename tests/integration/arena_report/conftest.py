"""A browser, and in it the report of a tournament."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome

from tests.support.browser import chromium
from tests.support.report_page import Page, made
from tests.support.tournament import tournament


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="package")
def page(browser: Chrome, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return made(browser, tmp_path_factory.mktemp("report"), tournament())
