"""Unusable files: one line with file and key, exit code 2, and nothing is written."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.ports import free_ports
from tests.support.processes import router_process

#: What the release before schema 4 wrote.
OLD = Path(__file__).parents[1] / "results" / "schema_3"

GOOD = """
name: good
games: [tic_tac_toe]
agents: {x: {type: llm, model: hf_a}, o: {type: random}}
"""

#: An experiment without a model.
PLAIN = GOOD.replace("llm, model: hf_a", "random")

#: The problem, the file, and what the error says after the file's name.
FILES = {
    "unknown game": (GOOD.replace("tic_tac_toe", "tic_tac_to"), "games[0]: ", "tic_tac_toe"),
    "wrong parameter": (
        GOOD.replace("tic_tac_toe", "{name: hex, params: {size: 3}}"),
        "games[0]: ",
        "parameter 'size' is unknown",
    ),
    "a game's file": (
        GOOD.replace("tic_tac_toe", "{name: efg_game, params: {filename: /etc/hostname}}"),
        "games[0]: ",
        "parameter 'filename' may name a file",
    ),
    "a file of an inner game": (
        GOOD.replace("tic_tac_toe", '"misere(game=efg_game(filename=/etc/hostname))"'),
        "games[0]: ",
        "parameter 'filename' may name a file",
    ),
    "a game that ends its process": (
        GOOD.replace("tic_tac_toe", "universal_poker(numPlayers=10)"),
        "games[0]: ",
        "game universal_poker(numPlayers=10): OpenSpiel ended its process",
    ),
    "escapes": (
        GOOD.replace("tic_tac_toe", '"x\\e[2J\\x9b"'),
        "games[0]: ",
        "no game with this name",
    ),
    "agent type": (GOOD.replace("random", "lucky"), "agents.o.type: ", "not 'lucky'"),
    "unknown key": (GOOD + "episode: 3", "episode: ", "did you mean episodes?"),
    "players missing": (GOOD.replace(", o: {type: random}", ""), "games[0]: ", "2 players"),
    "players too many": (
        GOOD.replace("{type: random}", "{type: random}, p: {type: random}"),
        "games[0]: ",
        "agents: lists 3",
    ),
    "negative episodes": (GOOD + "episodes: -3", "episodes: ", "must be over 0, not -3"),
    "no mapping": ("- tic_tac_toe", "must be a mapping", ""),
    "no YAML": ("games: [", "line 1: is not valid YAML", ""),
    "a key twice": (GOOD + "name: again", "line 5: is not valid YAML: ", "'name' appears twice"),
    "a game it cannot play": (
        GOOD.replace("random", "minimax, depth: 3").replace("tic_tac_toe", "kuhn_poker"),
        "games[0]: ",
        "minimax plays only",
    ),
    "wrong policy": (GOOD + "on_illegal: shrug", "on_illegal: ", "'shrug'"),
}


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("wrong", FILES)
def test_a_wrong_experiment(arena, tmp_path: Path, wrong: str) -> None:
    text, key, says = FILES[wrong]
    (tmp_path / "experiment.yaml").write_text(text)
    done = arena("run", "--config", "experiment.yaml")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"arena: experiment.yaml: {key}"), done.err
    assert says in done.err
    assert done.err.count("\n") == 1
    if "\ngames:" in text:  # else it could be a file that only names models
        assert arena("validate", "--config", "experiment.yaml") == done
    assert not set("\x1b\x9b") & set(done.err)
    assert os.listdir() == ["experiment.yaml"]


def test_a_file_that_does_not_exist(arena) -> None:
    for command in (("run", "--config", "no.yaml"), ("report", "no.yaml"), ("export", "no.yaml")):
        done = arena(*command)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("arena: no.yaml: ")
        assert done.err.count("\n") == 1
    assert os.listdir() == []


@pytest.mark.parametrize("option", ["--replay", "--record"])
@pytest.mark.parametrize(
    "record", ["plainly no record", "[1]", '{"key":["e",0,0,0],"request":{},"reply":{}}', "\0\1"]
)
def test_a_corrupt_record(arena, tmp_path: Path, option: str, record: str) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "record").write_text(f"{record}\nand the rest")
    before = files(tmp_path)
    done = arena("run", "--config", "good.yaml", option, "record")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("arena: record:1: "), done.err
    assert done.err.count("\n") == 1
    assert files(tmp_path) == before


@pytest.mark.timeout(30)
def test_a_record_that_is_a_pipe(arena, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    os.mkfifo(tmp_path / "record")
    done = arena("run", "--config", "good.yaml", "--record", "record")
    assert (done.code, done.out, done.err) == (
        2,
        "",
        "arena: record: must be a file, not a pipe\n",
    )


def test_results_that_cannot_be_written(arena, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "file").write_text("in the way")
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE precious (value)")
    connection.close()
    (tmp_path / "text.sqlite").write_text("no database at all\n" * 99)
    before = files(tmp_path)
    for results, says in {
        "file": "file is not a folder",
        "file/below": "file is not a folder",
        "foreign.sqlite": "is not a results file of the arena",
        "text.sqlite": "file is not a database",
    }.items():
        done = arena("run", "--config", "good.yaml", "--results", results)
        assert (done.code, done.out) == (2, ""), results
        assert done.err.startswith("arena: "), done.err
        assert says in done.err
        assert done.err.count("\n") == 1
    assert files(tmp_path) == before


def test_a_folder_that_cannot_be_created(arena, tmp_path: Path) -> None:
    """Not even root knows that before it tries."""
    (tmp_path / "good.yaml").write_text(PLAIN)
    done = arena("run", "--config", "good.yaml", "--results", "/proc/nowhere")
    assert (done.code, done.out) == (2, "")
    assert "arena: /proc/nowhere/arena.sqlite: cannot be used: " in done.err


def test_results_of_an_earlier_release(arena, tmp_path: Path) -> None:
    """They can be reported and merged, but not continued."""
    (tmp_path / "good.yaml").write_text(PLAIN)
    with closing(sqlite3.connect(tmp_path / "old.sqlite")) as connection:
        connection.executescript((OLD / "old.sql").read_text())
    before = files(tmp_path)
    done = arena("run", "--config", "good.yaml", "--results", "old.sqlite")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "arena: old.sqlite: was written by an earlier release, and can only be read: "
        "`arena merge old.sqlite --to NEW` copies its episodes into a new file\n"
    )
    assert arena("validate", "--config", "good.yaml", "--results", "old.sqlite") == done
    assert files(tmp_path) == before
    assert arena("merge", "old.sqlite", "--to", "new.sqlite").out.startswith("new.sqlite: 8 new ")
    done = arena("run", "--config", "good.yaml", "--results", "new.sqlite")
    assert done.code == 0, done.err


def test_an_unknown_prefix(arena, tmp_path: Path) -> None:
    """The router refuses the prefix before anything is written."""
    (tmp_path / "good.yaml").write_text(GOOD.replace("hf_a", "gpt-4o"))
    router = f"127.0.0.1:{free_ports(1)[0]}"
    config = tmp_path / "router.yaml"
    # No backend is called for this model, so any target will do.
    config.write_text(f"listen: {router}\nroutes: {{hf_: {{targets: ['127.0.0.1:1']}}}}\n")
    with router_process(router, config):
        done = arena("run", "--config", "good.yaml", "--target", router)
    assert (done.code, done.out) == (1, "")
    assert "UNKNOWN_PREFIX: " in done.err
    assert "(in agents.x.model)" in done.err
    assert done.err.endswith("0 of 1 models can run\n")
    assert not list(tmp_path.rglob("*.sqlite"))


def test_wrong_usage(arena, tmp_path: Path) -> None:
    (tmp_path / "human.yaml").write_text(GOOD.replace("random", "human"))
    (tmp_path / "ray.yaml").write_text(GOOD + "ray: {address: 'ray://head:10001'}")
    for arguments, says in {
        (): "COMMAND",
        ("run",): "--config",
        ("run", "--config", "x", "--record", "a", "--replay", "b"): "not allowed with",
        ("run", "--config", "x", "--runner", "slurm"): "invalid choice: 'slurm'",
        ("run", "--config", "human.yaml", "--runner", "ray"): "human.yaml: agents.o.type: ",
        ("run", "--config", "ray.yaml"): "ray.yaml: ray.address: ",
        ("validate", "--config", "ray.yaml"): "ray.yaml: ray.address: ",
        ("export", "x", "--format", "xml"): "invalid choice: 'xml'",
        ("run", "--config", "x", "--runer", "ray"): "--runer; did you mean --runner?",
        ("run", "--confg", "x"): "--confg; did you mean --config?",
        ("run", "--config", "x", "--runner", "rya"): "did you mean ray?",
        ("--confg", "x"): "options of a command come after it",
        ("rnu", "--config", "x"): "did you mean run?",
    }.items():
        done = arena(*arguments)
        assert (done.code, done.out) == (2, "")
        assert says in done.err.splitlines()[-1]
