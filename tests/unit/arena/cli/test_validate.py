"""arena validate: what it prints, and its exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from arena_llm import Availability, FreePrice, Model, ModelState
from arena_llm.types import Price
from arena_llm.v1 import llm_service_pb2_grpc, models_pb2
from arena_llm.wire import to_message
from tests.support.prices import credits_of, price
from tests.unit.arena.cli.conftest import Done

GPT, GROQ = "openrouter_openai/gpt-4o", "litellm_groq/llama-3.1-8b-instant"
LOW = "Low balance: $0.50"


def ready(price: Price | None = None, **fields: Any) -> Availability:
    model = Model("openrouter_any", price=price)
    return Availability(True, ModelState.READY, model=model, **fields)


def broken(detail: str) -> Availability:
    return Availability(False, ModelState.MISCONFIGURED, detail, reason="API_KEY_MISSING")


POOR = {"detail": "$0.50 left", "credits": credits_of(0.5), "price": price(1e-7, 2e-10)}
ANSWERS = {
    GPT: ready(credits=credits_of(9, 20), price=price(2.5e-6, 10e-6)),
    "openrouter_poor": ready(warnings=(LOW,), **POOR),
    "openrouter_poor2": ready(warnings=(LOW,), **POOR),
    "openrouter_poorer": ready(warnings=(LOW, "and slow"), **POOR),
    "openrouter_nokey": broken("set the key"),
    GROQ: broken("set GROQ_API_KEY"),
    "litellm_x": ready(),
    "hf_a": ready(detail="ready", price=FreePrice()),
    "hf_b": ready(price=FreePrice()),
}


class Router(llm_service_pb2_grpc.LlmServiceServicer):
    """Answers as in ANSWERS; while `held` is cleared, it does not answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.held = threading.Event()
        self.held.set()

    def IsAvailable(
        self, request: models_pb2.IsAvailableRequest, context: grpc.ServicerContext
    ) -> models_pb2.IsAvailableResponse:
        self.asked.append(request.model)
        while not self.held.wait(0.01) and context.is_active():
            pass
        return to_message(ANSWERS[request.model], models_pb2.IsAvailableResponse)

    def ListModels(
        self, request: models_pb2.ListModelsRequest, context: grpc.ServicerContext
    ) -> models_pb2.ListModelsResponse:
        return models_pb2.ListModelsResponse()


Run = Callable[..., Done]
Write = Callable[[str], str]


@pytest.fixture
def router() -> Router:
    return Router()


@pytest.fixture
def target(router: Router) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(8))
    llm_service_pb2_grpc.add_LlmServiceServicer_to_server(router, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture
def run(arena: Callable[..., Done], target: str) -> Run:
    """Runs the command against the router."""
    return lambda *arguments: arena("validate", *arguments, "--target", target)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file and returns its path."""

    def write_file(text: str) -> str:
        path = tmp_path / "experiment.yaml"
        path.write_text(text)
        return str(path)

    return write_file


def words(text: str) -> list[str]:
    """The lines, with single spaces."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_a_table(run: Run) -> None:
    done = run("--models", GPT, "openrouter_poor", "hf_a", "hf_b", GROQ, "hf_a", "litellm_x")
    assert words(done.out) == [
        "MODEL BACKEND STATUS USD PER MILLION TOKENS DETAIL",
        f"{GPT} openrouter ok 2.5 in, 10 out -",
        f"openrouter_poor openrouter warning 0.1 in, 0.0002 out {LOW}",
        "hf_a hf ok 0 ready",
        "hf_b hf ok 0 -",
        f"{GROQ} litellm fail unknown API_KEY_MISSING: set GROQ_API_KEY",
        "litellm_x litellm ok unknown -",
        "openrouter: $9.00 / $20.00 of credits left",
        "openrouter: $0.50 of credits left",
        "5 of 6 models can run",
    ]
    assert (done.code, done.err) == (1, "")


def test_a_warning_of_several_models_is_printed_once(run: Run) -> None:
    models = ["openrouter_poor", "openrouter_poor2", "openrouter_poorer"]
    done = run("--models", *models, "hf_a")
    lines = words(done.out)
    assert [line.rpartition(" out ")[2] for line in lines[1:4]] == [
        "$0.50 left",
        "$0.50 left",
        "and slow",
    ]
    assert lines[-2:] == [f"warning: openrouter: {LOW}", "4 of 4 models can run"]


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
def test_quiet(run: Run, arguments: list[str], code: int, shown: list[str]) -> None:
    done = run("--quiet", "--models", *arguments)
    assert (done.code, done.err) == (code, "")
    # A header, and one row for each problem.
    assert len(done.out.splitlines()) == (len(shown) + 1 if shown else 0)
    assert all(text in done.out for text in shown)
    document = json.loads(run("--json", "--models", *arguments).out)
    assert document["can_run"] is (code == 0)


def test_json(run: Run, target: str) -> None:
    done = run("--json", "--models", GPT, GROQ)
    document = json.loads(done.out)
    assert (done.code, done.err) == (1, "")
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
        "credits": {"balance_picousd": 9 * 10**12, "limit_remaining_picousd": 20 * 10**12},
        "price": {
            "kind": "table",
            "rates": [
                {"unit": "prompt_token", "picousd": 2_500_000, "above_prompt_tokens": 0},
                {"unit": "completion_token", "picousd": 10_000_000, "above_prompt_tokens": 0},
            ],
            "read_time": None,
        },
    }
    assert document["models"][1]["reason"] == "API_KEY_MISSING"


@pytest.mark.parametrize(
    ("text", "places"),
    [
        # A service's file, with keys that no experiment has.
        (
            "listen: 127.0.0.1:1\nmodels: [hf_a, {name: hf_b, model_path: /m}]",
            {"hf_a": ["models[0]"], "hf_b": ["models[1]"]},
        ),
        # The agents of an experiment whose games are not decided yet.
        (
            f"agents: {{x: {{type: llm, model: {GROQ}}}, y: {{type: random}}}}\n"
            "opponents: {z: {type: llm, model: hf_a}}",
            {GROQ: ["agents.x.model"], "hf_a": ["opponents.z.model"]},
        ),
        (
            f"games: [kuhn_poker]\nmodels: [hf_a, {{name: hf_a, as: hot}}, {GROQ}]",
            {"hf_a": ["models[0]", "models[1]"], GROQ: ["models[2]"]},
        ),
    ],
)
def test_the_models_of_a_file(
    run: Run, write: Write, text: str, places: dict[str, list[str]]
) -> None:
    file = write(text)
    done = run("--config", file, "--json")
    assert json.loads(done.out)["places"] == places
    done = run("--config", file)
    assert done.code == int(GROQ in places)
    if GROQ in places:
        assert f"API_KEY_MISSING: set GROQ_API_KEY (in {places[GROQ][0]})" in done.out


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (None, ["cannot be read: No such file or directory"]),
        ("- hf_a", ["must be a mapping of keys to values"]),
        ("models:", ["models, agents: the file names no model"]),
        ("models: hf_a", ["models: must be a list"]),
        ("agents: [hf_a]", ["agents: must be a mapping"]),
        ("gmaes: [hex]\nmodels: [hf_a]", ["gmaes: unknown key; did you mean games?"]),
        ("models: [hf_a, 7]\nagents: {x: {type: llm}}", ["models[1]: must be", "agents.x.model:"]),
        ("games: [hex]\nmodels: [hf_a]\nepisodes: 0\nseed: x", ["episodes: ", "seed: "]),
    ],
)
def test_a_file_that_cannot_be_used(
    run: Run, router: Router, write: Write, text: str | None, problems: list[str]
) -> None:
    file = "no.yaml" if text is None else write(text)
    done = run("--config", file)
    assert (done.code, done.out) == (2, "")
    lines = [line.removeprefix(f"arena: {file}: ") for line in done.err.splitlines()]
    assert len(lines) >= len(problems)
    for problem in problems:
        assert any(line.startswith(problem) for line in lines), done.err
    document = json.loads(run("--config", file, "--json").out)
    assert (document["can_run"], len(document["problems"])) == (False, len(lines))
    assert router.asked == []


ESTIMATED = """
models: [%s]
games: [{name: hex, episodes: 5}]
max_tokens: 100
estimate: {plies: 40, prompt_tokens: 300}
"""


def test_an_estimate(run: Run, write: Write) -> None:
    file = write(ESTIMATED % f"{GPT}, hf_a, litellm_x")
    done = run("--config", file, "--estimate")
    # 5 episodes against each of two others, from both seats, 20 moves each: 400 calls of
    # 300 and 100 tokens, 120,000 at $2.5 and 40,000 at $10 a million.
    shown = words(done.out)
    assert [line for line in shown[6:] if "from 50 %" not in line] == [
        "MODEL CALLS PROMPT TOKENS COMPLETION TOKENS COST",
        f"{GPT} 400 120,000 40,000 $0.70",
        "hf_a 400 120,000 40,000 $0.00",
        "litellm_x 400 120,000 40,000 unknown",
        "at least $0.70 in total",
        "warning: litellm_x: its price is unknown",
        "3 of 3 models can run",
    ]
    assert (done.code, done.err) == (0, "")
    document = json.loads(run("--config", file, "--estimate", "--json").out)
    assert document["estimate"]["picousd"] == 7 * 10**11
    assert document["estimate"]["at_least"] is True
    assert document["estimate"]["models"][0]["prompt_tokens"] == 120_000


@pytest.mark.parametrize(
    ("episodes", "found"),
    [
        (5, "are too few to tell even 80 %"),
        (14, "tell 80 %"),
        (300, "tell 60 %"),
        (410, "tell 55 %"),
    ],
)
def test_an_estimate_says_what_the_episodes_can_show(
    run: Run, write: Write, episodes: int, found: str
) -> None:
    text = "models: [hf_a, hf_b]\ngames: [hex]\nestimate: {plies: 9, prompt_tokens: 9}\n"
    file = write(f"{text}episodes: {episodes}\n")
    shown = words(run("--config", file, "--estimate").out)
    count = f"{2 * episodes:,}"  # from both seats
    assert f"hex: {count} episodes of each pair {found} from 50 %" in shown
    (line,) = [line for line in shown if line.startswith("independent episodes")]
    assert "820 for 55 % (542 with 30 % draws)" in line
    document = json.loads(run("--config", file, "--estimate", "--json").out)
    assert document["needed"][0] == {"score": 0.55, "episodes": 820, "with_draws": 542}
    assert document["powers"][0]["episodes"] == 2 * episodes
    assert "from 50 %" not in run("--config", file).out


def test_a_budget_needs_the_price_of_every_model(run: Run, write: Write) -> None:
    text = ESTIMATED % "hf_a, litellm_x" + "max_cost_usd: 0.5\n"
    refused = run("--config", write(text), "--estimate", "--quiet")
    assert refused.code == 1
    assert "PRICE_UNKNOWN" in refused.out
    assert "add prices: {litellm_x: {prompt: ..., completion: ...}}" in words(refused.out)[-1]
    priced = text + "prices: {litellm_x: {prompt: 2, completion: 3.5}}\n"
    done = run("--config", write(priced), "--estimate")
    # 200 calls: 60,000 tokens at $2 and 20,000 at $3.5 a million.
    assert {"litellm_x 200 60,000 20,000 $0.19", "about $0.19 in total"} <= {*words(done.out)}
    assert done.code == 0


@pytest.mark.parametrize(
    ("episodes", "code", "says"),
    [
        (50, 0, ""),  # $3.50 of $9
        (120, 0, "warning: openrouter: will cost about $8.40, and $9.00 of credits are left\n"),
        (200, 1, "fail: openrouter: will cost about $14.00, and $9.00 of credits are left\n"),
    ],
)
def test_an_estimate_over_the_credits(
    run: Run, write: Write, episodes: int, code: int, says: str
) -> None:
    file = write((ESTIMATED % GPT).replace("episodes: 5", f"episodes: {episodes}"))
    done = run("--config", file, "--estimate", "--quiet")
    assert (done.code, done.out, done.err) == (code, says, "")
    assert run("--config", file, "--quiet").code == 0


def test_an_estimate_needs_an_experiment(run: Run, write: Write) -> None:
    file = write("models: [hf_a]")
    for source in (["--models", "hf_a"], ["--config", file]):
        done = run(*source, "--estimate")
        assert (done.code, done.out) == (2, "")
        assert "--estimate needs" in done.err


@pytest.mark.parametrize(
    "arguments",
    [[], ["--models"], ["--config"], ["--models", "a", "--config", "b"], ["a"], ["--timeout", "0"]],
)
def test_wrong_usage(arena: Callable[..., Done], arguments: list[str]) -> None:
    done = arena("validate", *arguments)
    assert done.code == 2
    assert "usage: arena validate" in done.err


def test_a_wrong_target(arena: Callable[..., Done]) -> None:
    done = arena("validate", "--models", "hf_a", "--target", "localhost")
    assert (done.code, done.out) == (2, "")
    assert "INVALID_TARGET" in done.err


@pytest.mark.usefixtures("quick_refusal")
def test_no_router(arena: Callable[..., Done]) -> None:
    done = arena("validate", "--models", "hf_a", GPT)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("arena: UNREACHABLE: ")
    assert done.err.count("\n") == 1


def test_ctrl_c_ends_all_calls(target: str, router: Router) -> None:
    router.held.clear()
    command = [sys.executable, "-m", "arena.cli", "validate", "--target", target]
    process = subprocess.Popen(
        [*command, "--models", "hf_a", "hf_b"], stderr=subprocess.PIPE, text=True
    )
    while len(router.asked) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == "arena: interrupted\n"
    assert process.returncode == 130
