"""An export is made once, verified, and refused with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from services.common.errors import ModelMisconfigured
from services.hf.config import HfModel
from services.hf.openvino import exports
from services.hf.openvino.exports import ExportRefused, make_export
from services.hf.openvino.verify import TOLERANCE, Refused, verify
from tests.support.tiny_models import make_checkpoint
from tests.unit.hf.conftest import Checkpoints, Models
from tests.unit.hf.engine_driver import load_tiny


def never(*arguments: Any, **options: Any) -> dict[str, Any]:
    raise AssertionError("nothing is exported again")


def test_an_export_is_made_once(checkpoint: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_export(checkpoint("llama"), half=False)
    assert first.difference is not None
    assert first.difference < TOLERANCE
    assert (first.tokens, first.embedded, first.end_tokens, first.half) == (400, 400, (1,), False)
    monkeypatch.setattr(exports, "_run", never)
    assert make_export(checkpoint("llama"), half=False) == first
    # A tokenizer and a chat template change no export.
    assert make_export(checkpoint("llama-chat"), half=False) == first


def test_an_export_replaces_those_of_earlier_versions(
    tmp_path: Path,
    checkpoint: Checkpoints,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ARENA_CACHE_DIR", str(tmp_path))
    facts = {
        "embedded": 1,
        "tokens": 1,
        "end_tokens": [],
        "suppressed": [],
        "size": 1,
        "half": True,
    }
    monkeypatch.setattr(exports, "_run", lambda *_, **__: facts | {"difference": 0.0})
    versions = iter(["1", "1", "2", "2"])
    monkeypatch.setattr(exports, "version", lambda library: library + next(versions, "2"))
    first = make_export(checkpoint("llama"), half=False).file.parent
    (first / "model.bin").write_bytes(b"0" * 2_000_000)
    second = make_export(checkpoint("llama"), half=False).file.parent
    others = [
        make_export(checkpoint("llama"), half=True).file.parent,
        make_export(checkpoint("mistral"), half=False).file.parent,
    ]
    assert make_export(checkpoint("llama"), half=False).file.parent == second
    kept = {folder for folder in (tmp_path / "openvino").iterdir() if folder.is_dir()}
    assert kept == {second, *others}
    logged = [line for line in capsys.readouterr().err.splitlines() if "deleted" in line]
    assert len(logged) == 1
    assert "number=1 megabytes=2" in logged[0]


def test_a_refusal_is_remembered(
    tmp_path: Path, checkpoint: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARENA_CACHE_DIR", str(tmp_path))
    with pytest.raises(ExportRefused, match="encoder-decoder"):
        make_export(checkpoint("t5"), half=False)
    monkeypatch.setattr(exports, "_run", never)
    with pytest.raises(ExportRefused, match="encoder-decoder"):
        make_export(checkpoint("t5"), half=False)


@pytest.mark.parametrize("changed", ["config.json", "model.safetensors"])
def test_another_checkpoint_is_another_export(tmp_path: Path, changed: str) -> None:
    folder = make_checkpoint(tmp_path / "model", "llama")
    before = exports._key(folder, [])
    (folder / "tokenizer.json").write_text("{}")
    assert exports._key(folder, []) == before != exports._key(folder, ["--half"])
    with open(folder / changed, "ab") as file:
        file.write(b"\n")
    assert exports._key(folder, []) != before


def test_a_model_that_differs_is_refused(checkpoint: Checkpoints) -> None:
    folder = checkpoint("llama")
    export = make_export(folder, half=False)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert verify(plain, export.file, export.tokens) < TOLERANCE
    with torch.no_grad():
        plain.model.layers[1].self_attn.q_proj.weight[0] *= 1.5
    with pytest.raises(Refused, match="differs from transformers"):
        verify(plain, export.file, export.tokens)


def test_what_it_cannot_run_stays_on_transformers_and_says_why(checkpoint: Checkpoints) -> None:
    loaded = load_tiny(checkpoint("gpt_neo"), engine="auto")
    assert loaded.served_by.engine.startswith("transformers")
    assert "2 of its 2 layers" in loaded.note
    assert loaded.note.startswith("runs on transformers: ")
    with pytest.raises(ModelMisconfigured, match="cannot run on OpenVINO: 2 of its 2 layers"):
        load_tiny(checkpoint("gpt_neo"), engine="openvino")


@pytest.mark.parametrize(
    ("entry", "reason"), [({"dtype": "bfloat16"}, "its entry sets dtype: bfloat16")]
)
def test_an_entry_can_ask_for_what_only_transformers_does(
    checkpoint: Checkpoints, entry: dict[str, Any], reason: str
) -> None:
    assert load_tiny(checkpoint("llama"), engine="auto", **entry).note.endswith(reason)
    with pytest.raises(ModelMisconfigured, match=reason):
        load_tiny(checkpoint("llama"), engine="openvino", **entry)


def test_auto_is_openvino_on_a_cpu(model: Models) -> None:
    loaded = model("llama", "auto")
    assert loaded.served_by.engine.startswith("openvino 20")
    assert (loaded.served_by.precision, loaded.note) == ("fp32", "")
    assert HfModel(name="hf_x").engine == "auto"
    assert HfModel(name="hf_x").precision == "exact"
