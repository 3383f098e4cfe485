"""A page with 10,000 episodes, as large as a page becomes, in a real browser."""

from __future__ import annotations

import base64
import random
from pathlib import Path

from arena.report.embed import BRIEF, PART, WHOLE, Report
from arena.report.page import write_html
from tests.support.browser import chromium
from tests.support.random_play import play, write
from tests.support.report_page import Page

EPISODES = 10_000


def test_a_page_with_10_000_episodes_opens_quickly(tmp_path: Path) -> None:
    """Its size is that of the largest page: replays beyond it stay out, and the page says so."""
    played = [play("tic_tac_toe", ("hf_one", "random"), number) for number in range(2)]
    report = Report.load(write(tmp_path / "results.db", played))
    embedded = report.embedded
    first, second = embedded.index["episodes"]
    embedded.index["episodes"] = [
        {**(first if number % 2 else second), "id": f"episode {number}", "number": number}
        for number in range(EPISODES)
    ]
    # Parts that no one opens: their content does not matter, only their size.
    noise = base64.b64encode(random.Random(0).randbytes(PART * 3 // 4)).decode()  # noqa: S311
    embedded.parts += [noise] * (BRIEF // len(noise))
    embedded.brief, embedded.absent = 2_000, 1_000
    write_html(report, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > WHOLE
    # A browser of its own, whose figures are those of this page.
    with chromium(tmp_path / "profile") as browser:
        browser.execute_cdp_cmd("Performance.enable", {})
        page = Page(browser, tmp_path / "report.html", played).open()
        assert page.count() == "10,000 of 10,000 episodes"
        metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        spent = {metric["name"]: metric["value"] for metric in metrics}
        # CPU time of the page itself, which does not depend on what else the machine does.
        assert spent["ThreadTime"] < 2
        # The list has a hundred rows, and grows on request.
        assert page.script("return document.querySelectorAll('*').length") < 5_000
        assert "2,000 episodes are shown without prompts" in page.text("#replays .note")
        assert "1,000 without moves" in page.text("#replays .note")
        # The last episode opens by its address.
        page.open(episode="episode 9999")
        page.until(lambda: "#10000" in page.text("#stage h3"))
