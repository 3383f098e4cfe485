"""An error that stops the vllm service when it starts."""

from __future__ import annotations

import subprocess
from pathlib import Path

from deploy.services import ROOT, VLLM
from tests.support.local_models import require_vllm


def test_an_unknown_engine_argument_is_reported(tmp_path: Path) -> None:
    require_vllm()
    config = tmp_path / "vllm_models.yaml"
    config.write_text(
        "listen: 127.0.0.1:0\nmodels:\n  - name: vllm_a\n    model_path: /a\n"
        "    engine_args: {max_modellen: 4096}\n"
    )
    done = subprocess.run(
        [str(VLLM.python), "-m", "services.vllm", "--config", str(config)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"{config}: vllm_a: vLLM 0.32" in done.stderr
    assert "has no argument max_modellen, which engine_args sets" in done.stderr
    assert "did you mean max_model_len" in done.stderr
    assert "Traceback" not in done.stderr
