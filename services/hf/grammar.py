"""Constraints as token masks, computed by llguidance."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import takewhile
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
from services.common.local.writing import CompletionEncoder
from services.common.validation import MAX_CHOICES

# White space that a model may write between JSON's tokens. Without a bound it may never end.
_JSON_OPTIONS: Any = {"whitespace_pattern": r"[ \n]{0,2}"}

_UNWRITABLE = "this model's vocabulary cannot write the required text"

#: The bytes that a text can have.
_UTF8_BYTES = [byte for byte in range(0xF5) if byte not in (0xC0, 0xC1)]

#: Most allowed tokens that are tried out, which takes about 10 us each.
_MAX_LOOKAHEAD = 64

#: Number of compiled constraints that are kept, the least recently used dropped first.
_CACHED_CONSTRAINTS = 64

# Each choice is an item of the first row; the default is 2000.
_LIMITS: Any = llguidance.LLParserLimits(max_items_in_row=2 * MAX_CHOICES)


class _Wrapped:
    """The tokenizer with the interface that llguidance needs.

    size: the size of the model's output layer. Further tokens are added after it: one for each byte
    that no token of the model writes alone, because llguidance needs tokens for any forced text.
    """

    def __init__(
        self, encoder: CompletionEncoder, vocabulary: Vocabulary, ends: Sequence[int], size: int
    ) -> None:
        self._encoder = encoder
        self._size = size
        self.eos_token_id = ends[0]
        self.bos_token_id = None
        self.special_token_ids = [index for index in vocabulary.special_ids if index < size]
        # A special token gets bytes that begin with 0xFF, which no text contains.
        self.tokens = [
            vocabulary.token_bytes(index) or b"\xff<%d>" % index for index in range(size)
        ]
        for end in (end for end in ends if end < size):
            self.tokens[end] = b"\xff<%d>" % end
        known = set(self.tokens)
        missing = [byte for byte in _UTF8_BYTES if bytes([byte]) not in known]
        self._missing = {byte: size + place for place, byte in enumerate(missing)}
        self.tokens += [bytes([byte]) for byte in missing]

    def __call__(self, text: str) -> list[int]:
        # Tokens that write another text would contradict the grammar.
        whole = self._encoder.encode_piece(text, self._size)
        if whole is not None:
            return whole
        tokens, rest = self._encoder.encode_greedily(text.encode(), self._size)
        while rest:
            more, after = self._encoder.encode_greedily(rest[1:], self._size)
            tokens += [self._missing[rest[0]], *more]
            rest = after
        return tokens


class GrammarCompiler:
    """Turns constraints into matchers for one tokenizer.

    tokens: the size of the model's output layer. ends: the end tokens of a constrained text. One
    that is an ordinary token is left out, because the text may need it.
    """

    def __init__(
        self,
        encoder: CompletionEncoder,
        vocabulary: Vocabulary,
        eos: tuple[int, ...],
        tokens: int,
    ) -> None:
        named = vocabulary.added_ids.union(vocabulary.special_ids)
        ends = [end for end in eos if end < tokens and end in named]
        self.ends = frozenset(ends or eos[:1])
        wrapped = _Wrapped(encoder, vocabulary, sorted(self.ends), tokens)
        wrapper = llguidance.TokenizerWrapper(wrapped)
        self._tokenizer = llguidance.LLTokenizer(
            wrapper, n_vocab=len(wrapped.tokens), eos_token=sorted(self.ends)
        )
        self._tokens = tokens
        # What the decoder drops at the beginning and at the end of a text.
        self._lead, self._trail = " " * vocabulary.spaced, " " * vocabulary.trails
        # Games offer the same legal actions again and again.
        self._compiled = lru_cache(_CACHED_CONSTRAINTS)(self._compile)

    def compile(self, constraint: Constraint) -> Matcher:
        """A new matcher for a constraint.

        Raises InvalidRequest for a schema or pattern that cannot be used.
        """
        matcher = self._compiled(constraint).deep_copy()
        size = self._tokenizer.vocab_size
        return Matcher(matcher, self._tokens, constraint_field(constraint), size)

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
            grammar = _surround(grammar, self._lead, self._trail)
            # No log, because it would contain texts.
            matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0, limits=_LIMITS)
        except ValueError as error:
            raise make_unusable_error(field, _explain(constraint, str(error))) from error
        if matcher.is_error():
            raise make_unusable_error(field, _explain(constraint, matcher.get_error()))
        return matcher


def _surround(grammar: str, lead: str, trail: str) -> str:
    """A grammar whose texts have `lead` before and `trail` after them."""
    if not lead and not trail:
        return grammar
    inner = "arena_inner"
    if grammar.startswith("{"):
        whole = json.loads(grammar)
    else:
        whole = {"grammars": [{"lark_grammar": grammar}]}
    whole["grammars"][0]["name"] = inner
    # The last token of a text may lack the space.
    parts = [
        json.dumps(lead) if lead else "",
        f"@{inner}",
        f"{json.dumps(trail)}?" if trail else "",
    ]
    start = {"name": "arena", "lark_grammar": f"start: {' '.join(parts)}"}
    whole["grammars"].insert(0, start)
    return json.dumps(whole)


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
    would then allow the end token, as if the text were complete. tokens: those of the model; the
    grammar has `size`, of which the others only help it.
    """

    def __init__(self, matcher: Any, tokens: int, field: str, size: int) -> None:
        self._matcher = matcher
        self.field = field
        self._bits = llguidance.numpy.allocate_token_bitmask(1, size)
        self._tokens, self._size = tokens, size

    def allowed(self) -> npt.NDArray[np.bool_]:
        """A mask [tokens] of bool: True for tokens that may come next."""
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._bits, 0)
        self._check()
        flags = np.unpackbits(self._bits[0].view(np.uint8), bitorder="little")
        allowed: npt.NDArray[np.bool_] = flags[: self._tokens].view(np.bool_)
        if self._size > self._tokens:
            self._exclude_dead_ends(allowed)
        if not allowed.any():
            raise make_unusable_error(self.field, _UNWRITABLE)
        return allowed

    def _exclude_dead_ends(self, allowed: npt.NDArray[np.bool_]) -> None:
        """Exclude tokens after which the model has no token, if few are allowed, in place.

        A vocabulary that does not have every byte may write "left" with a token that it cannot
        continue with " corner", and with another one that it can.
        """
        tokens = allowed.nonzero()[0]
        if len(tokens) > _MAX_LOOKAHEAD:
            return
        bits = np.empty_like(self._bits)
        for token in tokens.tolist():
            after = self._matcher.deep_copy()
            if not after.consume_token(token) or after.is_stopped():
                continue
            llguidance.numpy.fill_next_token_bitmask(after, bits, 0)
            flags = np.unpackbits(bits[0].view(np.uint8), bitorder="little")
            allowed[token] = flags[: self._tokens].any()

    def forced(self) -> list[int]:
        """The tokens that must come next, split as the tokenizer does; often empty."""
        forced: list[int] = self._matcher.compute_ff_tokens()
        self._check()
        return [*takewhile(lambda token: token < self._tokens, forced)]

    def consume(self, token: int) -> None:
        """Advance by a token that was allowed."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            # The lines after the first repeat the text and the grammar.
            why = self._matcher.get_error().partition("\n")[0]
            if "NoExtension" in why or "doesn't satisfy" in why:
                why = _UNWRITABLE
            raise make_unusable_error(self.field, why)

    @property
    def complete(self) -> bool:
        """True if no token can follow."""
        return bool(self._matcher.is_stopped())
