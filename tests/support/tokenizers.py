"""Real tokenizers of each kind, trained on a few sentences."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from services.common.local.request import PromptReader
from tests.support.tiny_models import CHATML, make_checkpoint

_TEXT = [
    "The board is empty. Choose a move: 0 1 2 3 4 5 6 7 8, left or left corner. Yes or no? "
    "It's your turn!\nif x:\n    return 7\nplaying played moving moved"
] * 9
#: The context length of `make_reader`.
CONTEXT = 512
#: Their places are those of tiny_models.
_END, _UNKNOWN = "<|im_end|>", "<unk>"
_SPECIALS = ["<|bos|>", _END, "<|im_start|>", _UNKNOWN]
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def _byte_level(*, prefix: bool) -> Tokenizer:
    """GPT-2, Llama 3, Qwen; with a prefix RoBERTa's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _train(tokenizer, trainers.BpeTrainer, vocab_size=330, initial_alphabet=alphabet)


def _sentencepiece(*, prefix: bool) -> Tokenizer:
    """BPE of SentencePiece: Llama 2 puts a space before a text, Gemma does not."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=_UNKNOWN, fuse_unk=True))
    spaces = normalizers.Replace(" ", "\u2581")
    added = [normalizers.Prepend("\u2581"), spaces] if prefix else [spaces]
    tokenizer.normalizer = normalizers.Sequence(added)
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    parts: list[Any] = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, *[decoders.Strip(" ", 1, 0)] * prefix])
    specials = [*_SPECIALS, *_BYTES]
    trained = _train(tokenizer, trainers.BpeTrainer, vocab_size=390, special_tokens=specials)
    described = json.loads(trained.to_str())
    # The bytes have to be in the vocabulary, but they are no special tokens.
    described["added_tokens"] = described["added_tokens"][: len(_SPECIALS)]
    return Tokenizer.from_str(json.dumps(described))


def _metaspace(scheme: str) -> Tokenizer:
    """Unigram of SentencePiece: T5 and its relatives."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return _train(tokenizer, trainers.UnigramTrainer, vocab_size=110, unk_token=_UNKNOWN)


def _wordpiece() -> Tokenizer:
    """BERT's, which Chinese GPT-2 models use."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return _train(tokenizer, trainers.WordPieceTrainer, vocab_size=120)


def _suffixed() -> Tokenizer:
    """BPE with a suffix at the end of a word: the first GPT, XLM."""
    tokenizer = Tokenizer(models.BPE(unk_token=_UNKNOWN, end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    return _train(tokenizer, trainers.BpeTrainer, vocab_size=150, end_of_word_suffix="</w>")


def _words() -> Tokenizer:
    """Whole words, without a decoder: models of moves."""
    tokenizer = Tokenizer(models.WordLevel(unk_token=_UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return _train(tokenizer, trainers.WordLevelTrainer, vocab_size=120)


def _train(tokenizer: Tokenizer, trainer: Any, **options: Any) -> Tokenizer:
    settings = {"special_tokens": _SPECIALS, "show_progress": False, **options}
    tokenizer.train_from_iterator(_TEXT, trainer(**settings))
    return tokenizer


#: Kind -> makes a tokenizer.
KINDS: dict[str, Callable[[], Tokenizer]] = {
    "byte level": lambda: _byte_level(prefix=False),
    "byte level, prefix": lambda: _byte_level(prefix=True),
    "sentencepiece, prefix": lambda: _sentencepiece(prefix=True),
    "sentencepiece": lambda: _sentencepiece(prefix=False),
    "metaspace, always": lambda: _metaspace("always"),
    "metaspace, first": lambda: _metaspace("first"),
    "metaspace, never": lambda: _metaspace("never"),
    "wordpiece": _wordpiece,
    "suffixed": _suffixed,
    "words": _words,
}


def make_tokenizer(kind: str) -> Any:
    """A tokenizer of one of KINDS, as transformers loads it."""
    return PreTrainedTokenizerFast(
        tokenizer_object=KINDS[kind](), eos_token=_END, unk_token=_UNKNOWN
    )


def make_model(folder: Path, kind: str, **changes: Any) -> Path:
    """A tiny random llama with a tokenizer of one of KINDS."""
    make_checkpoint(folder, "llama", **changes)
    make_tokenizer(kind).save_pretrained(folder)
    return folder


def make_reader(tokenizer: Any, template: str | None = CHATML, tokens: int = 400) -> PromptReader:
    """A reader of prompts, for a model with CONTEXT tokens and this many embeddings."""
    return PromptReader("hf_tiny", tokenizer, template, CONTEXT, tokens)
