"""A broken model folder is reported with its name and what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.common.errors import ModelMisconfigured
from tests.support.tiny_models import ARCHITECTURES
from tests.unit.hf.conftest import Checkpoints, Models
from tests.unit.hf.engine_driver import load_tiny

WEIGHTS = "model.safetensors"


def cut(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return apply


def drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def settings(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def pickle(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def own_code(folder: Path) -> None:
    settings(folder, model_type="own", auto_map={"AutoConfig": "own.Config"})
    (folder / "own.py").write_text("raise SystemExit('code of a model folder ran')")


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "weights cut": (cut(WEIGHTS), "SafetensorError"),
    "weights empty": (lambda f: (f / WEIGHTS).write_bytes(b""), "SafetensorError"),
    "weights are garbage": (lambda f: (f / WEIGHTS).write_bytes(b"?" * 999), "SafetensorError"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "no weights"),
    "a tensor missing": (drop_tensor, r"do not fit.*model\.layers\.1\.mlp\.up_proj\.weight"),
    "another shape": (lambda f: settings(f, intermediate_size=96), r"do not fit.*mlp\."),
    "no context": (lambda f: settings(f, max_position_embeddings=0), "has no context length"),
    "pickled weights": (pickle, "allow_pickle: true"),
    "config cut": (cut("config.json"), r"config\.json"),
    "unknown architecture": (lambda f: settings(f, model_type="nonesuch"), "nonesuch"),
    "tokenizer cut": (cut("tokenizer.json"), "JSONDecodeError"),
    "no tokenizer": (lambda f: [p.unlink() for p in f.glob("tokenizer*")], "tokenizer"),
    "code of its own": (own_code, "custom code"),
}


@pytest.fixture
def folder(checkpoint: Checkpoints, tmp_path: Path) -> Path:
    """A copy of a working model, which a test may break."""
    return Path(shutil.copytree(checkpoint("llama"), tmp_path / "model"))


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_reported(folder: Path, case: str) -> None:
    damage, why = BROKEN[case]
    damage(folder)
    with pytest.raises(ModelMisconfigured, match=why) as caught:
        load_tiny(folder)
    assert str(folder) in caught.value.message
    assert "hf_tiny" in caught.value.message


def test_pickled_weights_load_where_the_entry_allows_it(folder: Path) -> None:
    pickle(folder)
    assert load_tiny(folder, allow_pickle=True).tokens == 400


@pytest.mark.parametrize(("configured", "length"), [(None, 512), (100, 100), (9999, 512)])
def test_an_entry_may_lower_the_context_length(
    folder: Path, configured: int | None, length: int
) -> None:
    assert load_tiny(folder, context_length=configured).reader.context_length == length


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_facts_about_a_model(model: Models, name: str) -> None:
    loaded = model(name)
    assert (loaded.reader.context_length, loaded.eos, loaded.tokens) == (512, {1}, 400)
    assert loaded.reader.encoder_decoder == (name == "t5")
    assert not loaded.reader.features.chat
    assert loaded.size > 100_000


def test_a_chat_template_of_the_entry_makes_a_chat_model(folder: Path, tmp_path: Path) -> None:
    template = tmp_path / "chat.jinja"
    template.write_text("{{ messages[0].content }}")
    assert load_tiny(folder, chat_template=template).reader.features.chat
