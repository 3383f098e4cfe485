"""The tokens of replies in columns, with their log-probabilities."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from arena_llm.types import (
    CountRequest,
    LogprobKind,
    Score,
    Scoring,
    ScoringRequest,
    TokenCount,
    TokenTrace,
    Usage,
)
from services.common.local.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """A token's log-probability, and (token, log-probability) pairs at its position."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ScoredText:
    """The tokens of a text. is_greedy: each is the likeliest one at its place; a tie counts."""

    tokens: Sequence[ScoredToken]
    is_greedy: bool

    @property
    def logprob(self) -> float:
        """The summed log-probability."""
        return sum(token.logprob for token in self.tokens)


def make_trace(
    vocabulary: Vocabulary | None,
    ids: Sequence[int],
    scored: Sequence[ScoredToken] = (),
    *,
    kind: LogprobKind = LogprobKind.RAW,
    with_text: bool = False,
) -> TokenTrace:
    """The tokens in columns.

    vocabulary: None if the bytes of the tokens are not known. scored: for each token, or for each
    but the first ones; all have equally many pairs. with_text: also raw_text and text_ends.
    """
    written = _write(vocabulary, ids)
    text, ends = _decode(written) if with_text else ("", ())
    if not scored:
        return TokenTrace(tuple(ids), bytes=written, text_ends=ends, raw_text=text)
    pairs = [pair for token in scored for pair in token.top]
    return TokenTrace(
        ids=tuple(ids),
        logprobs=tuple(token.logprob for token in scored),
        bytes=written,
        text_ends=ends,
        top_ids=tuple(token for token, _ in pairs),
        top_logprobs=tuple(logprob for _, logprob in pairs),
        top_bytes=_write(vocabulary, [token for token, _ in pairs]),
        top_count=len(scored[0].top),
        kind=kind,
        raw_text=text,
        unscored=len(ids) - len(scored),
    )


def _write(vocabulary: Vocabulary | None, ids: Iterable[int]) -> tuple[bytes, ...]:
    return () if vocabulary is None else tuple(map(vocabulary.written_bytes, ids))


def make_scoring(
    vocabulary: Vocabulary | None,
    request: ScoringRequest,
    prompt: Sequence[int],
    continuations: Sequence[Sequence[int]],
    scored: Sequence[ScoredText],
    scored_prompt: Sequence[ScoredToken],
    cached: int,
) -> Scoring:
    """The answer to a ScoringRequest.

    scored: one for each continuation. scored_prompt: the prompt's tokens but the first, if the
    request asks for them. cached: tokens of the prompt that came from a cache.
    """
    scores = (
        Score(text.logprob, text.is_greedy, make_trace(vocabulary, ids, text.tokens))
        for ids, text in zip(continuations, scored, strict=True)
    )
    prompt_trace = (
        make_trace(vocabulary, prompt, scored_prompt) if request.prompt_logprobs else None
    )
    usage = Usage(len(prompt), sum(map(len, continuations)), cached_tokens=cached)
    return Scoring(tuple(scores), prompt_trace, usage)


def make_count(
    vocabulary: Vocabulary | None, request: CountRequest, tokens: Sequence[int]
) -> TokenCount:
    """The answer to a CountRequest whose input has these tokens."""
    if not request.return_tokens:
        return TokenCount(len(tokens))
    return TokenCount(len(tokens), trace=make_trace(vocabulary, tokens, with_text=True))


def _decode(tokens: Iterable[bytes]) -> tuple[str, tuple[int, ...]]:
    """The text of the tokens, and where each ends in it, in code points.

    A character ends with the token that completes it.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    texts: list[str] = []
    ends: list[int] = []
    end = 0
    for token in tokens:
        texts.append(decoder.decode(token))
        end += len(texts[-1])
        ends.append(end)
    rest = decoder.decode(b"", final=True)
    if rest:
        ends[-1] += len(rest)
    return "".join([*texts, rest]), tuple(ends)
