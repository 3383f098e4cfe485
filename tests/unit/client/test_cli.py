"""The command: its output and its exit codes."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arena_llm.cli import main
from arena_llm.connection import read_checkout_settings
from arena_llm.v1 import generate_pb2, models_pb2, service_info_pb2
from tests.unit.client.scripted import (
    MODEL,
    Fail,
    Script,
    end_event,
    grpc,
    models,
    scores,
    text_event,
    text_reply,
)

NOT_FOUND = Fail(grpc.StatusCode.NOT_FOUND, "no such\nmodel", "MODEL_NOT_FOUND")


@pytest.fixture
def run(target: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command against the server; returns exit code, stdout, stderr."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(["--target", target, *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def availability(**fields) -> models_pb2.IsAvailableResponse:
    return models_pb2.IsAvailableResponse(
        **{"available": True, "state": models_pb2.MODEL_STATE_READY, **fields}
    )


def test_models(run, script: Script) -> None:
    reply = models("hf_a", "openrouter_long/name", "openrouter_free", unreachable=("vllm",))
    reply.models[0].context_length = 2048
    reply.models[0].capabilities.extend([models_pb2.CAPABILITY_CHAT, models_pb2.CAPABILITY_SEED])
    reply.models[1].price.table.rates.add(unit=models_pb2.PRICE_UNIT_PROMPT_TOKEN, picousd=150_000)
    reply.models[1].price.table.rates.add(
        unit=models_pb2.PRICE_UNIT_COMPLETION_TOKEN, picousd=600_000
    )
    reply.models[2].price.free.SetInParent()
    script.enqueue(reply, reply)
    code, out, err = run("models")
    assert code == 0
    assert out.splitlines() == [
        "MODEL                 CONTEXT  USD PER MILLION TOKENS  CAN",
        "hf_a                  2048     unknown                 chat seed",
        "openrouter_long/name  -        0.15 in, 0.6 out        -",
        "openrouter_free       -        0                       -",
    ]
    assert err == "arena-llm: vllm (127.0.0.1:9) not listed: start vllm\n"
    code, out, err = run("models", "--json")
    document = json.loads(out)
    assert [model["name"] for model in document["models"]][:2] == ["hf_a", "openrouter_long/name"]
    assert document["models"][0]["capabilities"] == ["chat", "seed"]
    assert document["unreachable"][0]["backend"] == "vllm"
    assert (code, err) == (0, "")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_models_fit_into_a_terminal(
    run, script: Script, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of a model is long: all its words come, in lines that the terminal does not break."""
    reply = models("hf_a", "openrouter_meta-llama/llama-3.1-8b-instruct")
    reply.models[0].capabilities.extend(value for value in models_pb2.Capability.values() if value)
    script.enqueue(reply, reply)
    _, piped, _ = run("models")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    _, shown, _ = run("models")
    assert shown.split() == piped.split()
    assert len(piped.splitlines()) == 3
    longest = max(map(len, shown.splitlines()))
    assert longest <= max(columns, 77)  # a name, its context and its price need so much


def test_check(run, script: Script) -> None:
    poor = availability(
        detail="ready",
        warnings=["low balance"],
        credits=models_pb2.Credits(
            balance_picousd=500_000_000_000, limit_remaining_picousd=2_000_000_000_000
        ),
    )
    script.enqueue(availability(), poor)
    code, out, err = run("check", "hf_a", "openrouter_b")
    assert out.splitlines() == [
        "MODEL         USABLE  STATE  CREDITS        DETAIL",
        "hf_a          yes     ready  -              -",
        "openrouter_b  yes     ready  $0.50 / $2.00  ready; low balance",
    ]
    assert (code, err) == (0, "")


def test_check_fails_if_one_model_is_not_usable(run, script: Script) -> None:
    answers = [availability(available=False, state=models_pb2.MODEL_STATE_UNKNOWN), NOT_FOUND]
    script.enqueue(availability(), *answers, availability(), *answers)
    code, out, err = run("check", "hf_a", "hf_b", "hf_c")
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["hf_a", "yes", "ready"],
        ["hf_b", "no", "unknown"],
        ["hf_c", "no", "MODEL_NOT_FOUND"],
    ]
    assert (code, err) == (1, "")
    code, out, _ = run("check", "hf_a", "hf_b", "hf_c", "--json")
    document = json.loads(out)
    assert [(entry["name"], entry["available"]) for entry in document] == [
        ("hf_a", True),
        ("hf_b", False),
        ("hf_c", False),
    ]
    assert document[2]["error"]["reason"] == "MODEL_NOT_FOUND"
    assert code == 1


def test_generate(run, script: Script) -> None:
    flags = ["--max-tokens=5", "--temperature=0.5", "--top-p=0.9", "--top-k=3", "--seed=7"]
    flags += ["--session=g", "--stop=a", "--stop=b"]
    assert run("generate", MODEL, "Your move?", *flags) == (
        0,
        "Your move?\n",
        "",
    )
    request = script.history[0].request
    config = request.config
    assert (request.model, request.prompt, request.session) == (MODEL, "Your move?", "g")
    assert (config.max_tokens, config.temperature, config.seed) == (5, 0.5, 7)
    assert (config.top_p, config.top_k, list(config.stop)) == (0.9, 3, ["a", "b"])
    assert not request.HasField("constraint")


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        (["--choice", "-1", "--choice", "0"], "choices"),
        (["--json-schema", '{"type": "null"}'], "json_schema"),
        (["--regex", "[0-8]"], "regex"),
    ],
)
def test_generate_constrained(run, script: Script, flags, kind) -> None:
    assert run("generate", MODEL, "p", *flags)[0] == 0
    constraint = script.history[0].request.constraint
    assert constraint.WhichOneof("kind") == kind
    if kind == "choices":
        assert list(constraint.choices.values) == ["-1", "0"]


def test_generate_with_instructions(run, script: Script) -> None:
    script.respond = lambda request: end_event("x4").completion
    assert run("generate", MODEL, "p", "--system", "s")[1] == "x4\n"
    messages = script.history[0].request.conversation.messages
    assert [(m.role, m.parts[0].text) for m in messages] == [(1, "s"), (2, "p")]


def test_generate_says_which_model_has_answered_in_place_of_another(run, script: Script) -> None:
    def answer(request: Any) -> Any:
        reply = end_event("4").completion
        reply.served_by.model = "hf_b"
        reply.failed_models.add(model=MODEL, reason="ERROR_REASON_API_KEY_MISSING")
        return reply

    script.respond = answer
    flags = ("--fallback-models", "hf_b", "hf_c", "--cache-use", "bypass")
    code, out, err = run("generate", MODEL, "p", *flags)
    assert (code, out) == (0, "4\n")
    assert (
        err == f"arena-llm: hf_b has answered, because others could not: {MODEL}: API_KEY_MISSING\n"
    )
    request = script.history[0].request
    assert list(request.fallback_models.names) == ["hf_b", "hf_c"]
    assert request.cache_use == generate_pb2.CACHE_USE_BYPASS
    run("generate", MODEL, "p", "--fallback-models")
    assert script.history[1].request.HasField("fallback_models")


def test_generate_json(run, script: Script) -> None:
    code, out, err = run("--json", "generate", MODEL, "schön")
    document = json.loads(out)
    assert (document["text"], document["finish_reason"]) == ("schön", "stop")
    assert document["served_by"]["model"] == MODEL
    assert document["usage"]["cost_usd"] is None
    assert (code, err) == (0, "")


def test_generate_stream(run, script: Script) -> None:
    script.enqueue_stream(text_event("x"), text_event("4"), end_event("x4"))
    assert run("generate", MODEL, "p", "--stream", "--seed", "1") == (0, "x4\n", "")
    assert script.history[0].method == "StreamGenerate"
    assert script.history[0].request.config.seed == 1


def test_generate_from_stdin(run, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("zwei\nZüge".encode())))
    assert run("generate", MODEL, "-") == (0, "zwei\nZüge\n", "")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    code, out, err = run("generate", MODEL, "-")
    assert (code, out) == (1, "")
    assert err.startswith("arena-llm: INVALID_REQUEST: prompt: ")


def test_score(run, script: Script) -> None:
    two = scores(-0.5, -12.25)
    two.scores[1].tokens.ids.append(2)
    script.enqueue(two, scores(-0.5))
    code, out, err = run("score", MODEL, "p", "4", "-1")
    assert out.splitlines() == [
        "CONTINUATION  LOGPROB   TOKENS",
        "4             -0.5000   1",
        "-1            -12.2500  2",
    ]
    assert (code, err) == (0, "")
    (only,) = json.loads(run("score", MODEL, "p", "4", "--json")[1])["scores"]
    assert (only["text"], only["logprob"], only["tokens"]["ids"]) == ("4", -0.5, [1])


def test_health(run, script: Script, target: str) -> None:
    replica = service_info_pb2.ReplicaInfo
    info = service_info_pb2.GetServiceInfoResponse(
        service="router",
        software_version="1.2.3",
        backends=[
            service_info_pb2.BackendInfo(
                backend="vllm",
                replicas=[
                    replica(address="h:1", state=3, detail="start it"),
                    replica(address="h:2", state=1),
                ],
            )
        ],
    )
    script.enqueue(info, info)
    code, out, err = run("health")
    assert out.splitlines()[0].split() == ["WHERE", "STATUS", "DETAIL"]
    assert out.splitlines()[1].split() == [target, "SERVING", "router", "1.2.3"]
    assert out.splitlines()[2].split() == ["vllm", "h:1", "UNREACHABLE", "start", "it"]
    assert out.splitlines()[3].split() == ["vllm", "1", "of", "2", "replicas", "-"]
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 4
    document = json.loads(run("health", "--json")[1])
    assert (document["target"], document["status"]) == (target, "SERVING")
    assert document["backends"][0]["replicas"][0]["state"] == "unreachable"


def test_health_of_a_target_that_does_not_serve(run, script: Script) -> None:
    script.enqueue(service_info_pb2.GetServiceInfoResponse())
    script.health.enter_graceful_shutdown()
    code, out, _ = run("health")
    assert "NOT_SERVING" in out
    assert code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("models",),
        ("generate", MODEL, "p"),
        ("score", MODEL, "p", "c"),
        ("health",),
    ],
)
def test_a_failure_is_one_line_or_one_document(run, script: Script, arguments) -> None:
    script.enqueue(NOT_FOUND, NOT_FOUND)
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("arena-llm: MODEL_NOT_FOUND: no such model")
    assert err.count("\n") == 1
    code, out, _ = run(*arguments, "--json")
    error = json.loads(out)["error"]
    assert (error["code"], error["reason"]) == ("NOT_FOUND", "MODEL_NOT_FOUND")
    assert code == 1


def test_no_server(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arena_llm._transport.CONNECT_SECONDS", 0)
    monkeypatch.setenv("ARENA_LLM_TARGET", f"unix:{tmp_path}/nobody")
    for arguments in (["models"], ["check", MODEL], ["health"]):
        assert main(arguments) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert f"{tmp_path}/nobody" in captured.err
        assert "make up" in captured.err


def test_the_timeout_applies_to_each_call(run, script: Script) -> None:
    run("generate", MODEL, "p", "--timeout", "50")
    assert 40 < script.history[0].time_remaining < 52


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["generate", MODEL],
        ["generate", MODEL, "p", "--max-tokens", "many"],
        ["check"],
        ["score", MODEL, "p"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith(("usage: arena-llm", "for help: arena-llm generate --help"))


def test_a_checkout_names_the_port_of_its_router(
    target: str, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ARENA_LLM_TARGET", raising=False)
    monkeypatch.delenv("ARENA_ROUTER_PORT", raising=False)
    (tmp_path / "configs").mkdir()
    port = target.rpartition(":")[2]
    (tmp_path / ".env").write_text(f"# the router\nOTHER=1\n export ARENA_ROUTER_PORT='{port}'\n")
    monkeypatch.chdir(tmp_path / "configs")
    assert read_checkout_settings(Path.cwd()) == {}  # not a checkout
    (tmp_path / "configs/router.yaml").touch()
    assert read_checkout_settings(Path.cwd()) == {"ARENA_ROUTER_PORT": port}
    script.enqueue(service_info_pb2.GetServiceInfoResponse())
    assert main(["health"]) == 0
    assert len(script.history) == 1


@pytest.mark.parametrize("text", ["0", "-1", "nan", "soon"])
def test_a_wrong_timeout(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["models", "--timeout", text])
    assert caught.value.code == 2
    assert f"--timeout: must be a number over 0, not '{text}'" in capsys.readouterr().err


def test_a_prompt_may_begin_like_an_option(run, script: Script) -> None:
    script.enqueue(text_reply("ok"))
    assert run("generate", "hf_a", "--what is your move?")[:2] == (0, "ok\n")


def test_an_unknown_option_is_refused_with_a_similar_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["generate", "hf_a", "Your move?", "--temprature", "1"])
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert "--temprature; did you mean --temperature?" in shown
    assert "for help: arena-llm generate --help" in shown, "its usage would fill the screen"
    assert len(shown.splitlines()) == 2
