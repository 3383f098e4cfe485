"""Models whose next token depends on the last one alone, by a table.

They run the code of a real architecture, but a test can prescribe what a model says: where it ends
its reasoning, which bytes it writes, and with which probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.support.tiny_models import CHATML, make_byte_level_tokenizer

#: Dimensions of an embedding: one for each token of the vocabulary.
_WIDTH = 384
#: Dimensions of a head. vLLM's attention on CPUs needs 32 at least.
_HEAD = 32

#: A token -> the tokens that may follow it, with their probabilities.
Table = Mapping[int, Mapping[int, float]]


def make_table(*chains: list[int]) -> dict[int, dict[int, float]]:
    """The table of chains in which each token is followed by the next one for sure."""
    return {before: {after: 1.0} for chain in chains for before, after in pairwise(chain)}


def make_config(vocabulary: int, **settings: Any) -> LlamaConfig:
    """The configuration of a chain model with so many tokens, at most 384."""
    if vocabulary > _WIDTH:
        raise ValueError(f"a chain model has at most {_WIDTH} tokens, not {vocabulary}")
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=_WIDTH,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=_WIDTH // _HEAD,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        **settings,
    )


@torch.no_grad()
def write_chains(model: LlamaForCausalLM, table: Table) -> None:
    """Set a model's weights so that it follows the table. Other tokens are followed by any."""
    model.lm_head.weight.zero_()
    embeddings = model.model.embed_tokens.weight
    embeddings.zero_()
    embeddings.fill_diagonal_(1.0)
    for layer in model.model.layers:
        # The layers add nothing, so what reaches the output is the last token's embedding.
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    scale = math.sqrt(_WIDTH)  # the norm of the output makes one number of it, this large
    for before, followers in table.items():
        model.lm_head.weight[:, before] = -100.0 / scale
        for after, probability in followers.items():
            model.lm_head.weight[after, before] = math.log(probability) / scale


def make_chain_model(folder: Path, tokenizer: Any, table: Table, **settings: Any) -> Path:
    """Write a chain model with this tokenizer to `folder`."""
    model = LlamaForCausalLM(make_config(len(tokenizer), **settings))
    write_chains(model, table)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


#: What the thinker writes by default: its reasoning, then an answer with a special token inside.
REASONING, ANSWER, HALT = "wqk", "xzjv", "<|halt|>"
#: As a raw prompt, it makes the thinker end inside its reasoning.
ABANDON = "A"
#: As the beginning of a reply, it makes the thinker begin a call.
CALL = "<think></think>T"
#: A letter that is among the thinker's end tokens.
END_LETTER = "J"


def make_thinker(folder: Path) -> Path:
    """A reasoning model, whose reply to every conversation is the same.

    It writes <think>, REASONING, </think>, and ANSWER with HALT before its last letter.
    """
    tokenizer = make_byte_level_tokenizer(chat=True)
    tokenizer.chat_template = f"{{% if tools %}}{{{{ tools | tojson }}}}{{% endif %}}{CHATML}"
    tokenizer.add_tokens(["<think>", "</think>", "<tool_call>", "</tool_call>"])
    tokenizer.add_tokens([HALT], special_tokens=True)

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
        return ids

    reply = f"\n<think>{REASONING}</think>{ANSWER[:-1]}{HALT}{ANSWER[-1]}<|im_end|>"
    table = make_table(
        encode(reply),
        encode(f"{ABANDON}B<|im_end|>"),
        encode(f"{CALL[-1]}<tool_call>"),
        encode("</tool_call><|im_end|>"),
    )
    ends = [*encode("<|im_end|>"), *encode(END_LETTER)]
    return make_chain_model(folder, tokenizer, table, bos_token_id=0, eos_token_id=ends)
