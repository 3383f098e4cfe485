"""What stops the vllm service at its start."""

from __future__ import annotations

import subprocess
from pathlib import Path

from deploy.services import ROOT, VLLM
from tests.support.vllm import require_vllm


def test_an_argument_of_another_version_is_named(tmp_path: Path) -> None:
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
    assert "vllm_a: engine_args.max_modellen is no argument of vLLM 0.32" in done.stderr
    assert "nearest names: max_model_len" in done.stderr
    assert "Traceback" not in done.stderr
