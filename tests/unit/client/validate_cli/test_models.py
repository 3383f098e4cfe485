"""arena-llm validate: what it prints of models and its exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from arena_llm import Price
from arena_llm.cli import main
from arena_llm.cli.output import format_price
from tests.unit.client.scripted import HOLD, Script
from tests.unit.client.validate_cli.conftest import GPT, GROQ, LOW


def test_a_table(run) -> None:
    code, out, err = run("--models", GPT, "openrouter_poor", "hf_a", "hf_b", GROQ, "hf_a")
    assert [line.split(None, 3) for line in out.splitlines()] == [
        ["MODEL", "BACKEND", "STATUS", "CREDITS  USD PER MILLION TOKENS  REASON"],
        [GPT, "openrouter", "ok", "$9.00    2.5 in, 10 out          -"],
        ["openrouter_poor", "openrouter", "warning", f"$0.50    unknown                 {LOW}"],
        ["hf_a", "hf", "ok", "-        0                       ready"],
        ["hf_b", "hf", "ok", "-        0                       -"],
        [
            GROQ,
            "litellm",
            "fail",
            "-        unknown                 API_KEY_MISSING: set GROQ_API_KEY",
        ],
        ["4", "of", "5", "models can run"],
    ]
    assert (code, err) == (1, "")


def test_what_the_models_of_a_key_share_is_said_once(run) -> None:
    models = ["openrouter_poor", "openrouter_poor2", "openrouter_poorer"]
    _, out, _ = run("--models", *models, "hf_a")
    _, *rows, _, warning, last = out.splitlines()
    assert [row.split(None, 2) for row in rows] == [
        [models[0], "openrouter", "warning  $0.50    unknown                 $0.50 left"],
        [models[1], "openrouter", "warning  $0.50    unknown                 $0.50 left"],
        [models[2], "openrouter", "warning  $0.50    unknown                 and slow"],
    ]
    assert (warning, last) == (f"warning: openrouter: {LOW}", "4 of 4 models can run")
    _, out, _ = run("--json", "--models", *models)
    assert [one["warnings"][0] for one in json.loads(out)["models"]] == [LOW] * 3


@pytest.mark.parametrize(
    ("price", "cell"),
    [
        ((1.5e-7, 6e-7), "0.15 in, 0.6 out"),
        ((0, 1e-6), "0 in, 1 out"),
        ((2.5e-10, 1.23456789e-5), "0.00025 in, 12.345679 out"),
        ((0.5, 2), "500,000 in, 2,000,000 out"),
    ],
)
def test_prices(price: tuple[float, float], cell: str) -> None:
    assert format_price(Price(*price)) == cell


@pytest.mark.parametrize(
    ("arguments", "code", "shown"),
    [
        (["hf_a", GPT], 0, []),
        (["hf_a", "openrouter_poor"], 0, [LOW]),
        (["hf_a", GROQ], 1, ["GROQ_API_KEY"]),
        ([GROQ, "--lenient"], 0, ["assumed to be valid, but API_KEY_MISSING: set GROQ_API_KEY"]),
        (["openrouter_nokey", "--lenient"], 1, ["API_KEY_MISSING: set the key"]),
    ],
)
def test_quiet_shows_what_is_wrong(run, arguments: list[str], code: int, shown: list[str]) -> None:
    ended, out, err = run("--quiet", "--models", *arguments)
    assert (ended, err) == (code, "")
    # A header and a row for each.
    assert len(out.splitlines()) == (len(shown) + 1 if shown else 0)
    assert all(text in out for text in shown)
    # The exit code does not depend on what is shown.
    assert run("--models", *arguments)[0] == code
    assert run("--json", "--models", *arguments)[0] == code


def test_json(run, target: str) -> None:
    code, out, err = run("--json", "--models", GPT, GROQ)
    document = json.loads(out)
    assert (code, err) == (1, "")
    assert (document["target"], document["can_run"]) == (target, False)
    assert (document["problems"], document["estimate"]) == ([], None)
    assert document["models"][0] == {
        "model": GPT,
        "backend": "openrouter",
        "status": "ok",
        "state": "ready",
        "reason": "",
        "detail": "",
        "warnings": [],
        "credits": {"balance_usd": 9.0, "limit_remaining_usd": None},
        "price": {"prompt_usd": 2.5e-6, "completion_usd": 10e-6},
    }
    assert document["models"][1]["reason"] == "API_KEY_MISSING"


def test_config_names_where_a_model_stands(run, file: Path) -> None:
    file.write_text(f"models: [hf_a]\nagents: {{x: {{type: llm, model: {GROQ}}}}}")
    code, out, _ = run("--config", str(file))
    assert code == 1
    assert "hf_a" in out
    assert "set GROQ_API_KEY (in agents.x.model)" in out
    document = json.loads(run("--config", str(file), "--json")[1])
    assert document["places"] == {"hf_a": ["models[0]"], GROQ: ["agents.x.model"]}


def test_a_wrong_line_is_named_and_the_others_checked(run, file: Path) -> None:
    file.write_text("models: [hf_a, 7]")
    for quiet in ([], ["--quiet"]):
        code, out, err = run("--config", str(file), *quiet)
        assert code == 2
        assert err.startswith(f"arena-llm: {file}: models[1]: must be a model's full name")
        assert ("hf_a" in out) is not bool(quiet)
    code, out, err = run("--config", str(file), "--json")
    document = json.loads(out)
    assert (code, err, document["can_run"]) == (2, "", False)
    assert document["problems"][0].startswith(f"{file}: models[1]: ")


@pytest.mark.parametrize("content", [None, "- hf_a", "models: [", "models:"])
def test_a_file_that_cannot_be_used(run, script: Script, file: Path, content: str | None) -> None:
    if content is not None:
        file.write_text(content)
    code, out, err = run("--config", str(file))
    assert (code, out) == (2, "")
    assert err.startswith(f"arena-llm: INVALID_CONFIG: {file}: ")
    assert err.count("\n") == 1
    code, out, _ = run("--config", str(file), "--json")
    assert (code, json.loads(out)["error"]["reason"]) == (2, "INVALID_CONFIG")
    assert script.history == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--models"],
        ["--config"],
        ["--models", "hf_a", "--config", "x.yaml"],
        ["hf_a"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["validate", *arguments])
    assert caught.value.code == 2
    assert "usage: arena-llm validate" in capsys.readouterr().err


def test_ctrl_c_ends_all_calls(target: str, script: Script) -> None:
    script.respond = lambda request: HOLD
    arrived = threading.Barrier(4)
    script.on_arrival = lambda: arrived.wait(30)
    code = "import sys, arena_llm.cli; sys.exit(arena_llm.cli.main())"
    arguments = ["validate", "--target", target, "--models", "hf_a", "hf_b"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stderr=subprocess.PIPE,
        text=True,
    )
    arrived.wait(30)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == "arena-llm: interrupted\n"
    assert process.returncode == 130
    assert all(seen.ended.wait(20) for seen in script.history)


def test_nobody_listens(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arena_llm._transport.CONNECT_SECONDS", 0)
    monkeypatch.setenv("ARENA_LLM_TARGET", f"unix:{tmp_path}/nobody")
    assert main(["validate", "--models", "hf_a", GPT]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("arena-llm: UNREACHABLE: ")
    assert "make up" in captured.err
    assert captured.err.count("\n") == 1
