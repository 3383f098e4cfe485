"""lm-evaluation-harness evaluates the embedded model over gRPC."""

from __future__ import annotations

from services.common.local.checks import embedded_folder
from services.hf.embedded import prepare
from tests.doors.conftest import RunProgram, Stack


def test_tasks(hf_stack: Stack, run_program: RunProgram) -> None:
    output = run_program("lm_eval", hf_stack.router, file="lm_eval_tasks.py", ours=True)
    assert output.startswith("lm-eval 0.4.13")
    print(output)


def test_equal_to_its_own_model(hf_stack: Stack, run_program: RunProgram) -> None:
    """Log-probabilities are those of the harness's model of transformers to 1e-3."""
    folder = embedded_folder().resolve()
    prepare(folder, weights=True)
    output = run_program(
        "lm_eval_hf", hf_stack.router, str(folder), file="lm_eval_equal.py", ours=True
    )
    assert output.startswith("lm-eval 0.4.13")
    print(output)
