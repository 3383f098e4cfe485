"""Small models with one fault, which still load."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

_WEIGHTS = "model.safetensors"
_EMBEDDINGS = "model.embed_tokens.weight"


def spoil_weights(folder: Path, value: float = torch.nan) -> Path:
    """Make every logit NaN."""
    return _change(folder, "model.norm.weight", slice(None), value)


def spoil_token(folder: Path, word: str, value: float = torch.nan) -> Path:
    """Make a model compute NaN after it has read a token that is one character."""
    return _change(folder, _EMBEDDINGS, _token(folder, word), value)


def silence_token(folder: Path, word: str) -> Path:
    """Make a model hardly ever write a token: its logit is always 0, and others are far higher."""
    return _change(folder, "lm_head.weight", _token(folder, word), 0.0)


def _change(folder: Path, name: str, where: int | slice, value: float) -> Path:
    tensors = load_file(folder / _WEIGHTS)
    tensors[name][where] = value
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    return folder


def remove_weights(folder: Path) -> Path:
    """Replace the weights by a broken link, as in a hub cache that was cleaned."""
    (folder / _WEIGHTS).unlink()
    (folder / _WEIGHTS).symlink_to(folder / "gone")
    return folder


def _token(folder: Path, word: str) -> int:
    [token] = AutoTokenizer.from_pretrained(folder)(word, add_special_tokens=False).input_ids
    return int(token)


def add_far_token(folder: Path, word: str) -> Path:
    """Give the tokenizer a token for which the model has no embedding."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([*(f"<|pad{n}|>" for n in range(100)), word])
    tokenizer.save_pretrained(folder)
    return folder


_CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

class Config(LlamaConfig):
    model_type = "own"

class Model(LlamaForCausalLM):
    config_class = Config

    def forward(self, input_ids=None, attention_mask=None, position_ids=None,
                past_key_values=None, use_cache=None, logits_to_keep=0, **more):
        if (input_ids == {token}).any() or Path({flag!r}).exists():
            raise {error}("out of order")
        return super().forward(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids,
            past_key_values=past_key_values, use_cache=use_cache,
            logits_to_keep=logits_to_keep, **more)
"""


def raise_at(folder: Path, word: str, flag: Path, error: str = "RuntimeError") -> Path:
    """Make passes fail that read the token `word`, and all passes while the file `flag` exists."""
    code = _CODE.format(token=_token(folder, word), flag=str(flag), error=error)
    (folder / "own.py").write_text(code)
    path = folder / "config.json"
    own = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"model_type": "own", "auto_map": own})
    )
    return folder
