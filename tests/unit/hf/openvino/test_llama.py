"""The graph that is built without torch is the model of transformers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import openvino as ov
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

from services.common.local.checks import embedded_folder
from services.hf.embedded import prepare, read_weights
from services.hf.openvino import exports
from services.hf.openvino.compress import compress
from services.hf.openvino.llama import build
from services.hf.openvino.verify import TOLERANCE, verify
from tests.support.tiny_models import make_checkpoint

ROOT = Path(__file__).parents[4]

#: Builds a model where torch and transformers cannot be imported.
_BUILD = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None
from pathlib import Path
from services.hf.openvino.llama import main
main(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_it_equals_transformers_and_needs_no_torch(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model", "llama", tie_word_embeddings=True)
    subprocess.run([sys.executable, "-c", _BUILD, str(folder), str(tmp_path)], check=True, cwd=ROOT)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert verify(plain, tmp_path / "model.xml", 400) < TOLERANCE


@pytest.mark.parametrize(
    "changes",
    [
        {"tie_word_embeddings": False},
        {"attention_bias": True},
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_model_is_not_built(tmp_path: Path, changes: dict[str, Any]) -> None:
    settings = {"tie_word_embeddings": True, **changes}
    assert build(make_checkpoint(tmp_path / "model", "llama", **settings)) is None


def test_the_embedded_model_is_exported_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARENA_CACHE_DIR", str(tmp_path))
    folder = make_checkpoint(embedded_folder(), "llama", tie_word_embeddings=True)
    export = exports.make_export(folder, half=False)
    assert (export.difference, export.end_tokens, export.tokens) == (None, (1,), 400)
    assert ov.Core().read_model(export.file)


@pytest.mark.integration
def test_the_real_embedded_model_equals_transformers(tmp_path: Path) -> None:
    folder = ROOT / embedded_folder()
    prepare(folder, weights=True)
    model = build(folder)
    assert model is not None
    stored = load_file(folder / "model.safetensors")
    assert all((values == stored[name]).all() for name, values in read_weights().items())
    assert compress(model) == 4 * 30 + 1, "all layers and the embeddings"
    ov.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert verify(plain, tmp_path / "model.xml", 49152) < TOLERANCE
