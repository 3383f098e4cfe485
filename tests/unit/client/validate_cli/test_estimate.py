"""arena-llm validate --estimate: what an experiment is going to take."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from arena_llm import validation
from tests.unit.client.scripted import Script
from tests.unit.client.validate_cli.conftest import GPT, GROQ


def test_an_estimate_needs_an_experiment(run, script: Script) -> None:
    code, out, err = run("--estimate", "--models", "hf_a")
    assert (code, out) == (2, "")
    assert "--estimate needs --config" in err
    assert script.history == []


ESTIMATED = """
models: [%s]
games: [{name: hex, episodes: 5}]
max_tokens: 100
estimate: {plies: 40, prompt_tokens: 300}
"""


def test_estimate(run, file: Path) -> None:
    file.write_text(ESTIMATED % f"{GPT}, hf_a, litellm_x")
    code, out, err = run("--config", str(file), "--estimate")
    # 5 episodes against each of two others, from both seats, 20 moves each: 400 calls of
    # 300 and 100 tokens, 120,000 at $2.5 and 40,000 at $10 a million.
    assert [" ".join(line.split()) for line in out.splitlines()[5:]] == [
        "MODEL CALLS PROMPT TOKENS COMPLETION TOKENS COST",
        f"{GPT} 400 120,000 40,000 $0.70",
        "hf_a 400 120,000 40,000 $0.00",
        "litellm_x 400 120,000 40,000 unknown",
        "at least $0.70 in all",
        "warning: litellm_x: no price is known (see `arena-llm models`)",
        "3 of 3 models can run",
    ]
    assert (code, err) == (0, "")
    assert run("--config", str(file), "--estimate", "--quiet") == (
        0,
        "warning: litellm_x: no price is known (see `arena-llm models`)\n",
        "",
    )
    found = json.loads(run("--config", str(file), "--estimate", "--json")[1])["estimate"]
    assert found["usd"] == pytest.approx(0.70)
    assert found["unpriced"] == ["litellm_x"]
    assert found["models"][0]["prompt_tokens"] == 120_000


@pytest.mark.parametrize(
    ("episodes", "code", "says"),
    [
        (50, 0, ""),  # $3.50 of $9
        (120, 0, "warning: openrouter: about $8.40 to be spent, $9.00 of credits left\n"),
        (200, 1, "fail: openrouter: about $14.00 to be spent, $9.00 of credits left\n"),
    ],
)
def test_an_estimate_over_the_credits(run, file: Path, episodes: int, code: int, says: str) -> None:
    content = (ESTIMATED % GPT).replace("episodes: 5", f"episodes: {episodes}")
    file.write_text(content)
    assert run("--config", str(file), "--estimate", "--quiet") == (code, says, "")
    document = json.loads(run("--config", str(file), "--estimate", "--json")[1])
    assert document["can_run"] is (code == 0)
    # Without being asked for, nothing is estimated.
    assert run("--config", str(file), "--quiet") == (0, "", "")


@pytest.mark.parametrize(("episodes", "cost"), [(1, "$0.07"), (1000, "$70.00")])
def test_the_whole_cost(run, file: Path, episodes: int, cost: str) -> None:
    file.write_text((ESTIMATED % GPT).replace("episodes: 5", f"episodes: {episodes}"))
    assert f"about {cost} in all" in run("--config", str(file), "--estimate")[1]
    file.write_text((ESTIMATED % GPT).replace("plies: 40", "plies: 0.1"))
    assert "about <$0.01 in all" in run("--config", str(file), "--estimate")[1]


def test_an_estimate_of_a_wrong_experiment(run, file: Path) -> None:
    file.write_text("models: [hf_a]\ngames: [{name: hex, episodes: 0}]")
    code, out, err = run("--config", str(file), "--estimate")
    assert code == 2
    assert err.startswith(f"arena-llm: {file}: games[0].episodes: must be a whole number")
    assert "1 of 1 models can run" in out


def test_a_guess_is_noted(run, file: Path) -> None:
    file.write_text("models: [hf_a]\ngames: [mine]")
    arguments = ("--config", str(file), "--estimate")
    assert "note: mine: not measured, counted as an average game" in run(*arguments)[1]
    assert run(*arguments, "--quiet") == (0, "", "")


def test_from_python(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = textwrap.dedent((validation.__doc__ or "").partition("\n\n")[2])
    (tmp_path / "experiment.yaml").write_text(ESTIMATED % f"{GPT}, {GROQ}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARENA_LLM_TARGET", target)
    exec(compile(example, "example", "exec"), {})  # noqa: S102 - our own text
    failed, usd = capsys.readouterr().out.splitlines()
    assert failed == f"['{GROQ}']"
    assert float(usd) == pytest.approx(0.35)
