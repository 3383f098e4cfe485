"""Door 1: OpenAI's API, proven by OpenAI's own client."""

from __future__ import annotations

import os

from tests.doors.conftest import RunProgram, Stack


def test_the_official_client(echo_stack: Stack, run_program: RunProgram) -> None:
    output = run_program("openai", echo_stack.gateway, file="openai_client.py")
    assert output.startswith("openai 3.")
    print(output)


def test_the_official_client_with_the_embedded_model(
    hf_stack: Stack, run_program: RunProgram
) -> None:
    print(run_program("openai", hf_stack.gateway, file="openai_embedded.py"))


def test_requests_made_from_the_document(echo_stack: Stack, run_program: RunProgram) -> None:
    """No request that schemathesis makes ends in a server error or in an answer of another form."""
    examples = os.environ.get("DOORS_EXAMPLES", "100")
    output = run_program("schemathesis", echo_stack.gateway, examples, file="fuzz.py")
    assert output.startswith("schemathesis 4.")
    print(output)


def test_a_load_by_guidellm(echo_stack: Stack, run_program: RunProgram) -> None:
    output = run_program("guidellm", echo_stack.gateway, file="guidellm_load.py")
    assert output.startswith("guidellm 0.8.")
    print(output)
