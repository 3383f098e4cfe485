"""Small random checkpoints of real architectures.

Their weights are random, but they run the same code as large models of the architecture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerFast,
)

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_SMALL: dict[str, Any] = {"vocab_size": 400, "bos_token_id": 0, "eos_token_id": 1}
_LLAMA: dict[str, Any] = {
    **_SMALL,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}

#: Architecture name -> the settings of a small model.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "mistral": {**_LLAMA, "sliding_window": 16},
    "gpt2": {
        **_SMALL,
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 512,
        "initializer_range": 0.3,
    },
    "gpt_neo": {
        **_SMALL,
        "hidden_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 16,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
    },
    "t5": {
        "vocab_size": 400,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
        "d_model": 64,
        "d_kv": 16,
        "d_ff": 128,
        "num_layers": 2,
        "num_heads": 4,
        "n_positions": 512,
        "tie_word_embeddings": False,
        "initializer_factor": 3.0,
    },
}

_TEXT = ["The board is empty. Choose a move: 0 1 2 3 4 5 6 7 8. Yes or no? It's your turn!"] * 9


def make_checkpoint(folder: Path, architecture: str, *, chat: bool = False, **changes: Any) -> Path:
    """Write a small random model of this architecture, with a tokenizer, to `folder`."""
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **{**ARCHITECTURES[architecture], **changes})
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    auto.from_config(config).eval().save_pretrained(folder)  # type: ignore[no-untyped-call]
    t5 = architecture == "t5"
    tokenizer = _unigram(chat=chat) if t5 else make_byte_level_tokenizer(chat=chat)
    tokenizer.save_pretrained(folder)
    return folder


def make_byte_level_tokenizer(*, chat: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer as GPT-2's, of 310 tokens. chat: with a template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<|bos|>", "<|im_end|>", "<|im_start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    return _fast(tokenizer, chat, eos="<|im_end|>")


def _unigram(*, chat: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    specials = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=90, special_tokens=specials, unk_token=specials[2], show_progress=False
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in specials])
    return _fast(tokenizer, chat, eos="</s>", pad="<pad>", unk="<unk>")


def _fast(tokenizer: Tokenizer, chat: bool, **special: str) -> PreTrainedTokenizerFast:
    named = {f"{role}_token": token for role, token in special.items()}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
    if chat:
        fast.chat_template = CHATML
    return fast
