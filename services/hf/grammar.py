"""Constraints as token masks, computed by llguidance."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

import llguidance
import llguidance.numpy
import numpy as np
import numpy.typing as npt

from arena_llm.types import AnyJsonObject, Choices, Constraint, Grammar, JsonSchema, Regex
from services.common.local.grammars import (
    ANY_OBJECT,
    check_schema_cost,
    constraint_field,
    make_unusable_error,
    read_grammar,
)
from services.common.local.vocabulary import Vocabulary
from services.common.validation import MAX_CHOICES

# White space that a model may write between JSON's tokens. Without a bound it may never end.
_JSON_OPTIONS: Any = {"whitespace_pattern": r"[ \n]{0,2}"}

#: Number of compiled constraints that are kept, the least recently used dropped first.
_CACHED_CONSTRAINTS = 64

# Each choice is an item of the first row; the default is 2000.
_LIMITS: Any = llguidance.LLParserLimits(max_items_in_row=2 * MAX_CHOICES)


class _Wrapped:
    """The tokenizer with the interface that llguidance needs."""

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary, eos: int, size: int) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = eos
        self.bos_token_id = None
        self.special_token_ids = [index for index in vocabulary.special_ids if index < size]
        self._longest = vocabulary.longest
        # A special token gets bytes that begin with 0xFF, which no text contains.
        self.tokens = [
            vocabulary.token_bytes(index) or b"\xff<%d>" % index for index in range(size)
        ]
        self._token_of = {token: index for index, token in reversed([*enumerate(self.tokens)])}

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        # SentencePiece puts a space before the text and some tokenizers normalize it. Tokens that
        # write another text would contradict the grammar.
        faithful = all(index < len(self.tokens) for index in ids) and text.encode() == b"".join(
            self.tokens[index] for index in ids
        )
        return ids if faithful else self._tokenize_greedily(text.encode())

    def _tokenize_greedily(self, text: bytes) -> list[int]:
        """Take the longest fitting token repeatedly, up to bytes that no token writes."""
        ids = []
        while text:
            lengths = range(min(len(text), self._longest), 0, -1)
            fitting = next((n for n in lengths if text[:n] in self._token_of), 0)
            if not fitting:
                break
            ids.append(self._token_of[text[:fitting]])
            text = text[fitting:]
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
        # Games offer the same legal actions again and again.
        self._compiled = lru_cache(_CACHED_CONSTRAINTS)(self._compile)

    def compile(self, constraint: Constraint) -> Matcher:
        """A new matcher for a constraint.

        Raises InvalidRequest for a schema or pattern that cannot be used.
        """
        return Matcher(
            self._compiled(constraint).deep_copy(), self._tokens, constraint_field(constraint)
        )

    def _compile(self, constraint: Constraint) -> Any:
        field = constraint_field(constraint)
        try:
            match constraint:
                case Choices(values):
                    grammar = llguidance.LLMatcher.grammar_from_lark(
                        "start: " + " | ".join(json.dumps(value) for value in values)
                    )
                case JsonSchema(schema):
                    check_schema_cost(schema)
                    grammar = llguidance.LLMatcher.grammar_from_json_schema(
                        schema, defaults=_JSON_OPTIONS
                    )
                case AnyJsonObject():
                    grammar = llguidance.LLMatcher.grammar_from_json_schema(
                        ANY_OBJECT, defaults=_JSON_OPTIONS
                    )
                case Grammar():
                    grammar = llguidance.LLMatcher.grammar_from_lark(read_grammar(constraint))
                case Regex(pattern):
                    grammar = llguidance.LLMatcher.grammar_from_regex(pattern)
            # No log, because it would contain texts.
            matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0, limits=_LIMITS)
        except ValueError as error:
            raise make_unusable_error(field, _explain(constraint, str(error))) from error
        if matcher.is_error():
            raise make_unusable_error(field, _explain(constraint, matcher.get_error()))
        return matcher


def _explain(constraint: Constraint, why: str) -> str:
    """llguidance's message; for a wrong pattern, the reason and the place in the pattern alone.

    The message also quotes the pattern, marks the place with "^" in the next line, and quotes the
    grammar that llguidance made of the pattern.
    """
    if not isinstance(constraint, Regex):
        return why
    reason = why.partition("\n   1 | start:")[0].rpartition("(in regex): ")[2]
    error = reason.rpartition("\nerror: ")[2]
    mark = re.search(r"^    (.*)\n    ( *)\^", reason, re.MULTILINE)
    # llguidance quotes some characters in an escaped form, which moves the mark.
    if mark is None or mark[1] != constraint.pattern:
        return error
    return f"{error} at character {len(mark[2]) + 1}"


class Matcher:
    """One request's position in its grammar. The engine's thread owns it.

    allowed, forced and consume raise InvalidRequest with `field` if no token can follow: the
    vocabulary cannot write the required text, or the grammar is too complex. llguidance itself
    would then allow the end token, as if the text were complete.
    """

    def __init__(self, matcher: Any, tokens: int, field: str) -> None:
        self._matcher = matcher
        self.field = field
        self._bits = llguidance.numpy.allocate_token_bitmask(1, tokens)
        self._tokens = tokens

    def allowed(self) -> npt.NDArray[np.bool_]:
        """A mask [tokens] of bool: True for tokens that may come next."""
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._bits, 0)
        self._check()
        flags = np.unpackbits(self._bits[0].view(np.uint8), bitorder="little")
        mask: npt.NDArray[np.bool_] = flags[: self._tokens].view(np.bool_)
        return mask

    def forced(self) -> list[int]:
        """The tokens that must come next, split as the tokenizer does; often empty."""
        forced: list[int] = self._matcher.compute_ff_tokens()
        self._check()
        return forced

    def consume(self, token: int) -> None:
        """Advance by a token that was allowed."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            # The lines after the first repeat the text and the grammar.
            why = self._matcher.get_error().partition("\n")[0]
            if "NoExtension" in why or "doesn't satisfy" in why:
                why = "this model's vocabulary cannot write the required text"
            raise make_unusable_error(self.field, why)

    @property
    def complete(self) -> bool:
        """True if no token can follow."""
        return bool(self._matcher.is_stopped())
