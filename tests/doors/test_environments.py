"""Our games inside the environments of other frameworks."""

from __future__ import annotations

from tests.doors.conftest import RunProgram, Stack


def test_pettingzoo(run_program: RunProgram) -> None:
    output = run_program("pettingzoo", file="pettingzoo_tests.py", ours=True)
    assert output.startswith("pettingzoo 1.27.")


def test_openenv(run_program: RunProgram) -> None:
    output = run_program("openenv", file="openenv_client.py", ours=True)
    assert output.startswith("openenv 0.10.")


def test_verifiers(hf_stack: Stack, run_program: RunProgram) -> None:
    output = run_program("verifiers", hf_stack.gateway, file="verifiers_rollouts.py", ours=True)
    assert output.startswith("verifiers 0.4.0")
    print(output)
