"""Inspect evaluates models over OpenAI's API: multiple choice and tools."""

from __future__ import annotations

from tests.doors.conftest import RunProgram, Stack


def test_tasks(hf_stack: Stack, echo_stack: Stack, run_program: RunProgram) -> None:
    addresses = hf_stack.gateway, echo_stack.gateway
    output = run_program("inspect", *addresses, file="inspect_tasks.py")
    assert output.startswith("inspect-ai 0.3.")
    print(output)
