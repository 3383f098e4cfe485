"""Constraints as token masks, by llguidance: choices, JSON Schema and regex alike."""

from __future__ import annotations

import json
from typing import Any

import llguidance
import llguidance.numpy
import numpy as np
import torch

from arena_llm.types import Choices, Constraint, JsonSchema, Regex
from services.common.errors import InvalidRequest
from services.hf.text import Vocabulary

# Between JSON's tokens a model may set a little white space, but not endlessly.
_JSON_OPTIONS: Any = {"whitespace_pattern": r"[ \n]{0,2}"}


class _Wrapped:
    """The tokenizer in the form that llguidance asks for."""

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary, eos: int, size: int) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = eos
        self.bos_token_id = None
        self.special_token_ids = vocabulary.special_ids
        # A special token's bytes begin with 0xFF, which no text does.
        self.tokens = [
            vocabulary.token_bytes(index) or b"\xff<%d>" % index for index in range(size)
        ]

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return ids


class GrammarCompiler:
    """Turns constraints into matchers for one tokenizer.

    tokens: the size of the model's output layer.
    """

    def __init__(
        self, tokenizer: Any, vocabulary: Vocabulary, eos: tuple[int, ...], tokens: int
    ) -> None:
        wrapped = _Wrapped(tokenizer, vocabulary, eos[0], tokens)
        wrapper = llguidance.TokenizerWrapper(wrapped)
        self._tokenizer = llguidance.LLTokenizer(wrapper, n_vocab=tokens, eos_token=list(eos))
        self._tokens = tokens

    def compile(self, constraint: Constraint) -> Matcher:
        """Raises InvalidRequest for a schema or pattern that cannot be used."""
        field = "constraint.choices"
        try:
            match constraint:
                case Choices(values):
                    grammar = llguidance.LLMatcher.grammar_from_lark(
                        "start: " + " | ".join(json.dumps(value) for value in values)
                    )
                case JsonSchema(schema):
                    field = "constraint.json_schema"
                    grammar = llguidance.LLMatcher.grammar_from_json_schema(
                        schema, defaults=_JSON_OPTIONS
                    )
                case Regex(pattern):
                    field = "constraint.regex"
                    grammar = llguidance.LLMatcher.grammar_from_regex(pattern)
            matcher = llguidance.LLMatcher(self._tokenizer, grammar)
        except ValueError as error:
            raise _unusable(field, str(error)) from error
        if matcher.is_error():
            raise _unusable(field, matcher.get_error())
        return Matcher(matcher, self._tokens)


def _unusable(field: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{field} cannot be used: {' '.join(why.split())[:500]}", field=field)


class Matcher:
    """One request's place in its grammar. The engine's thread owns it."""

    def __init__(self, matcher: Any, tokens: int) -> None:
        self._matcher = matcher
        self._bits = llguidance.numpy.allocate_token_bitmask(1, tokens)
        self._tokens = tokens

    def allowed(self) -> torch.Tensor:
        """[tokens] of bool: what may come next."""
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._bits, 0)
        flags = np.unpackbits(self._bits[0].view(np.uint8), bitorder="little")
        return torch.from_numpy(flags[: self._tokens].view(np.bool_))

    def consume(self, token: int) -> None:
        """Move on by a token that was allowed."""
        if not self._matcher.consume_token(token):
            raise RuntimeError(f"the grammar refused a token: {self._matcher.get_error()}")

    @property
    def complete(self) -> bool:
        """Whether nothing can follow any more."""
        return bool(self._matcher.is_stopped())
