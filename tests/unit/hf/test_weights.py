"""A model runs only with the weights that were saved with it, all of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from services.common.errors import ModelMisconfigured
from services.common.local.checks import check_model_folder
from services.hf.checkpoint import weight_bytes
from services.hf.weights import find_weights
from tests.support.tiny_models import make_checkpoint
from tests.unit.hf.conftest import Checkpoints
from tests.unit.hf.engine_driver import load_tiny

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(checkpoint: Checkpoints, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint("llama"), tmp_path / "model"))


def add(name: str) -> Callable[[Path], None]:
    """Adds a tensor to the weights."""

    def apply(folder: Path) -> None:
        tensors = {**load_file(folder / WEIGHTS), name: torch.ones(3, 64)}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return apply


def fewer_layers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))


def adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    save_file({"x": torch.ones(1)}, folder / "adapter_model.safetensors")


def only_consolidated(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "consolidated.safetensors")


def only_adapter(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.safetensors")
    adapter(folder)


def split(folder: Path) -> None:
    """Several files with an index."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    assert (folder / INDEX).exists()


def lose_a_part(folder: Path) -> None:
    split(folder)
    (folder / find_weights(folder, allow_pickle=False)[-1]).unlink()


def integers(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = (tensors[name] * 100).to(torch.int8)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def unknown_quantization(folder: Path) -> None:
    integers(folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "own"}
    (folder / "config.json").write_text(json.dumps(config))


UNFIT: dict[str, tuple[Callable[[Path], None], str]] = {
    "scales": (
        add("model.layers.0.mlp.up_proj.weight_scale_inv"),
        r"does not use 1 of .*weight_scale_inv.*quantization_config",
    ),
    "another layer": (add("model.layers.2.mlp.up_proj.weight"), r"does not use 1 of .*layers\.2"),
    "fewer layers": (fewer_layers, r"does not use 9 of .* and 6 more"),
    "an adapter beside a model": (adapter, "is an adapter.*merge it"),
    "an adapter alone": (only_adapter, "is an adapter.*merge it"),
    "weights of another library": (only_consolidated, "has no weights: neither model.safetensors"),
    "integers": (integers, r"are integers.*quantization_config.*up_proj"),
    "an unknown quantization": (unknown_quantization, r"are integers.*up_proj"),
    "a part of the weights": (lose_a_part, r"lacks weight files .* model-0000\d"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_weights_that_do_not_fit_are_refused(folder: Path, case: str) -> None:
    change, why = UNFIT[case]
    change(folder)
    with pytest.raises(ModelMisconfigured, match=why) as caught:
        load_tiny(folder)
    assert caught.value.message.startswith("hf_tiny: ")
    assert str(folder) in caught.value.message


def test_an_adapter_alone_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelMisconfigured, match="it is an adapter"):
        check_model_folder("hf_tiny", tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.0.attn.masked_bias",
        "transformer.h.0.attn.attention.bias",
        "model.embeddings.position_ids",
    ],
)
def test_buffers_of_old_checkpoints_are_no_weights(folder: Path, name: str) -> None:
    add(name)(folder)
    assert load_tiny(folder).tokens == 400


def test_the_entry_may_name_weights_that_are_not_needed(folder: Path) -> None:
    add("vision_tower.a")(folder)
    assert load_tiny(folder, ignore_weights=[r"vision_tower\..*"]).tokens == 400
    add("audio_tower.a")(folder)
    with pytest.raises(ModelMisconfigured, match="audio_tower"):
        load_tiny(folder, ignore_weights=["vision_tower"])


def test_a_tied_output_layer_may_be_saved_as_well(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, "llama", tie_word_embeddings=True)
    tensors = load_file(folder / WEIGHTS)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    assert load_tiny(folder).tokens == 400


@pytest.mark.parametrize("parts", [False, True])
def test_other_files_are_not_counted(folder: Path, parts: bool) -> None:
    if parts:
        split(folder)
    size = weight_bytes(folder)
    assert size > 100_000
    shutil.copy(
        folder / find_weights(folder, allow_pickle=False)[0], folder / "consolidated.safetensors"
    )
    assert weight_bytes(folder) == size
    assert load_tiny(folder).tokens == 400
