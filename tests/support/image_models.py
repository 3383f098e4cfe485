"""A small random model that reads images, with a SentencePiece tokenizer that falls back to bytes.

The CPU build of vLLM lacks torchvision. Most models with images need it, but this one does not.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlamaConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig

#: The token that stands for an image in the template's text, and those around its patches.
IMAGE, _AROUND, _GLOBAL = "<image>", "<fake_token_around_image>", "<global-img>"
#: Pixels of a side of an image, and of a patch; _SHRINK ** 2 patches are one token.
_SIDE, _PATCH, _SHRINK = 56, 14, 2
#: Tokens of an image: its patches, and the three around them.
IMAGE_TOKENS = (_SIDE // _PATCH // _SHRINK) ** 2 + 3

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '" + IMAGE + "' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)

_SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
_LETTERS = [*"▁abcdefghijklmnopqrstuvwxyz0123456789.,:?!"]
_MERGES = ["th", "an", "▁a", "is"]


def make_byte_fallback_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer as Llama's: words carry their space, and other characters are bytes."""
    special = [*_SPECIAL.values()]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *_LETTERS, *_MERGES]
    model = models.BPE(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[(pair[0], pair[1]) for pair in _MERGES],
        byte_fallback=True,
        fuse_unk=True,
    )
    model.unk_token = _SPECIAL["unk_token"]
    tokenizer = Tokenizer(model)
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    added = (*special, IMAGE, _AROUND, _GLOBAL, "<end_of_utterance>")
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in added])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_SPECIAL)
    fast.chat_template = TEMPLATE
    return fast


def make_png(color: tuple[int, int, int], width: int = 8, height: int = 8) -> bytes:
    """A PNG file of one color."""
    line = b"\0" + bytes(color) * width
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(line * height)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def make_image_model(folder: Path) -> Path:
    """Write the model to `folder`. Its text depends on the pixels of its images."""
    torch.manual_seed(0)
    tokenizer = make_byte_fallback_tokenizer()
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.3}
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=128,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=False,
        **layers,
    )
    vision = Idefics3VisionConfig(
        hidden_size=128, intermediate_size=64, image_size=_SIDE, patch_size=_PATCH, **layers
    )
    config = Idefics3Config(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        scale_factor=_SHRINK,
        pad_token_id=0,
        eos_token_id=2,
    )
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    pixels = {
        "image_processor_type": "Idefics3ImageProcessor",
        "processor_class": "Idefics3Processor",
        "do_image_splitting": False,
        "size": {"longest_edge": _SIDE},
        "max_image_size": {"longest_edge": _SIDE},
    }
    processor = {"processor_class": "Idefics3Processor", "image_seq_len": IMAGE_TOKENS - 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    (folder / "processor_config.json").write_text(json.dumps(processor))
    return folder
