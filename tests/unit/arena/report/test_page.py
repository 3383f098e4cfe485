"""The page's source: nothing in it can run but its own script, and nothing is fetched."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest

from arena.report.embed import Report
from arena.report.layout import Row, Table
from arena.report.page import heat_class, make_scale, write_html
from arena.results.database import ResultsError
from tests.support.random_play import Played, asked, play, write

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'<!--\u2028\x00"


class Elements(HTMLParser):
    """All elements of a page, with their attributes and the text inside."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))

    def handle_data(self, data: str) -> None:
        if self.found:
            self.found[-1][2].append(data)

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"/{tag}", {}, []))

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attrs, "".join(text)) for name, attrs, text in self.found if name == tag]


def render_page(path: Path) -> str:
    out = path.with_suffix(".html")
    write_html(Report.load(path), out)
    return out.read_text(encoding="utf-8")


def hostile_episodes() -> list[Played]:
    """Hostile text in every place that a model, a server or a configuration can fill."""
    agents = (f"hf_{HOSTILE}", "hf_two")
    good = play("tic_tac_toe", agents, 0, lambda row: [asked(row, model=HOSTILE)])
    bad = play("tic_tac_toe", agents, 1)
    error = replace(bad.moves[0], status="error", problem=HOSTILE, policy=HOSTILE, action=None)
    failed = replace(bad.row, status="failed", reason=HOSTILE, game=f"no_such_{HOSTILE}")
    return [good, Played(failed, (error,))]


def test_hostile_text_does_not_become_an_element(tmp_path: Path) -> None:
    plain = render_page(write(tmp_path / "a.db", [play("tic_tac_toe", ("hf_one", "hf_two"), 0)]))
    page = Elements(render_page(write(tmp_path / "b.db", hostile_episodes())))
    assert len(page.all("script")) == len(Elements(plain).all("script"))
    assert not page.all("img")
    for tag, attributes, _ in page.found:
        assert not [name for name in attributes if name.startswith("on")], tag
    ((_, text),) = [found for found in page.all("script") if found[0].get("id") == "index"]
    assert HOSTILE in json.loads(text)["agents"][0]["name"]


def test_the_policy_allows_only_the_pages_own_script_and_style(tmp_path: Path) -> None:
    page = Elements(render_page(write(tmp_path / "r.db", [play("matrix_rps", ("a", "b"))])))
    (policy,) = [
        attributes["content"] or ""
        for attributes, _ in page.all("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for directive, tag in (("script-src", "script"), ("style-src", "style")):
        (text,) = [text for attributes, text in page.all(tag) if not attributes]
        digest = base64.b64encode(sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert not [tag for tag, attributes, _ in page.found if "style" in attributes]


def test_the_page_links_only_to_itself(tmp_path: Path) -> None:
    source = render_page(write(tmp_path / "r.db", [play("tic_tac_toe", ("hf_one", "b"), 0)]))
    for _, attributes, _ in Elements(source).found:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith("#") or value == "data:,"
    # The namespace of SVG is not an address that a browser requests.
    addresses = set(re.findall(r"(?:https?:)?//[\w.]+/\S*", source.split('id="index"')[0]))
    assert not addresses
    script = source.rpartition("<script>")[2]
    assert set(re.findall(r"https?://[^\"]+", script)) == {"http://www.w3.org/2000/svg"}
    for forbidden in ("fetch(", "XMLHttpRequest", "innerHTML", "eval(", "import("):
        assert forbidden not in script


def test_equal_results_give_equal_pages(tmp_path: Path) -> None:
    path = write(tmp_path / "r.db", [play("connect_four", ("hf_one", "b"), n) for n in range(3)])
    assert render_page(path) == render_page(path)


@pytest.mark.parametrize("played", [[], hostile_episodes()[1:]], ids=["nothing", "failed only"])
def test_there_is_a_page_without_results(tmp_path: Path, played: list[Played]) -> None:
    page = render_page(write(tmp_path / "r.db", played, {"hf_idle": "llm"}))
    assert "hf_idle" in page
    assert "met nobody" in page or "No episode has ended yet." in page


def test_the_page_shows_the_settings(tmp_path: Path) -> None:
    path = write(tmp_path / "r.db", [play("matrix_rps", ("hf_one", "b"))])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("""UPDATE experiments SET config = '{"temperature":0.7}'""")
        connection.execute("""UPDATE players SET config = '{"on_illegal":"retry 2"}'""")
    page = Elements(render_page(path))
    assert [text for _, text in page.all("pre")] == ['{\n  "temperature": 0.7\n}']
    assert [text for _, text in page.all("code")][:2] == ['{"on_illegal":"retry 2"}'] * 2


def test_a_page_that_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    report = Report.load(write(tmp_path / "r.db", [play("matrix_rps", ("a", "b"))]))
    with pytest.raises(ResultsError, match=r"none/p\.html: cannot be written: No such file"):
        write_html(report, tmp_path / "none" / "p.html")
    with pytest.raises(ResultsError, match="cannot be written"):
        write_html(report, tmp_path)
    assert not list(tmp_path.glob("*.part"))
    assert not list(tmp_path.parent.glob("*.part"))


def test_the_axis_contains_all_intervals_and_has_round_ticks() -> None:
    rows = [Row((), interval=(1530, 1600, 1711)), Row(()), Row((), interval=(1289, 1400, 1470))]
    scale = make_scale(Table("ratings", "Ratings", (), rows))
    assert scale.ticks == (1300, 1400, 1500, 1600, 1700)
    assert 0 < float(scale.place(1289)[:-1]) < float(scale.place(1711)[:-1]) < 100


@pytest.mark.parametrize(
    ("score", "name"), [(None, "none"), (0.0, "h0"), (0.5, "h5"), (0.97, "h10"), (1.0, "h10")]
)
def test_a_cell_has_the_colour_of_its_score(score: float | None, name: str) -> None:
    assert heat_class(score) == name
