"""Inspect runs tasks over OpenAI's API: `inspect_tasks.py GATEWAY ECHO_GATEWAY`.

The first gateway serves the embedded model, which is too small to call tools. The second one serves
the echo model (tests/support/echo.py), which calls the tool that the prompt names.
"""

from __future__ import annotations

import tempfile
from typing import Any

import inspect_ai
from checks import run
from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import get_model
from inspect_ai.scorer import choice, includes
from inspect_ai.solver import generate, multiple_choice, use_tools
from inspect_ai.tool import Tool, tool


@tool
def double() -> Tool:
    async def execute(number: int) -> str:
        """Double a number.

        Args:
            number: the number
        """
        return f"say {2 * number}"

    return execute


def evaluate(url: str, name: str, task: Task) -> EvalLog:
    model = get_model(f"openai-api/arena/{name}", base_url=f"{url}/v1", api_key="unused")
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"log_dir": folder, "display": "none", "max_tokens": 16}
        (log,) = eval(task, model=model, temperature=0, **options)
        assert log.status == "success", log.error
        return read_eval_log(log.location)  # with its samples


def check_multiple_choice(url: str, _: str) -> None:
    samples = [
        Sample("What is the capital of France?", choices=["Paris", "Tokyo"], target="A"),
        Sample("What is two plus two?", choices=["nine", "four"], target="B"),
    ]
    task = Task(MemoryDataset(samples), solver=multiple_choice(), scorer=choice())
    log = evaluate(url, "hf_smollm2-135m-instruct", task)
    assert log.results is not None
    assert log.results.completed_samples == 2
    (score,) = log.results.scores
    print(f"accuracy {score.metrics['accuracy'].value}")
    assert log.samples is not None
    for sample in log.samples:
        assert sample.output.completion
        assert sample.output.usage is not None
        assert sample.output.usage.output_tokens > 0


def check_tools(_: str, url: str) -> None:
    """The model makes two calls of the tool, and then obeys what the tool returns."""
    samples = [Sample('call double {"number": 21}', target="42")]
    solver = [use_tools(double()), generate()]
    log = evaluate(
        url, "echo_model", Task(MemoryDataset(samples), solver=solver, scorer=includes())
    )
    assert log.samples is not None
    (sample,) = log.samples
    assert [one.role for one in sample.messages] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
    ]
    user, call, result, _again, answer = sample.messages
    assert user.text == 'call double {"number": 21}'
    assert call.tool_calls[0].function == "double"
    assert call.tool_calls[0].arguments == {"number": 21}
    assert (result.text, answer.text) == ("say 42", "42")
    assert log.results is not None
    assert log.results.scores[0].metrics["accuracy"].value == 1


run(globals(), f"inspect-ai {inspect_ai.__version__}")
