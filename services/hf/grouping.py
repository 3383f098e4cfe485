"""Which of the waiting prompts are read together, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from services.hf.prefix import PrefixCache
from services.hf.sequence import Sequence

#: Padding that a pass may have, as a share of its tokens.
_MOST_PADDING = 0.25
#: Tokens that must be in common with a prompt of this pass to wait for its end.
_WORTH_WAITING = 16


def together(
    waiting: Iterable[Sequence],
    prefixes: PrefixCache | None,
    most_tokens: int,
    has_room: Callable[[list[Sequence], Sequence], bool],
) -> list[Sequence]:
    """The first that waits, and of the others those whose unread rest is about as long.

    A prompt that begins as one of the group does, further than the prefix cache reaches,
    waits for it: it will find that beginning in the cache.
    """
    group: list[Sequence] = []
    tokens = longest = 0
    for sequence in waiting:
        if not has_room(group, sequence):
            break
        cached = 0 if prefixes is None else len(prefixes.match(sequence.unread[:-1]))
        rest = len(sequence.unread) - cached
        area = max(longest, rest) * (len(group) + 1)
        if group and (area > most_tokens or area > (tokens + rest) / (1 - _MOST_PADDING)):
            continue
        if prefixes is not None and rest > _WORTH_WAITING:
            begin = sequence.unread[: cached + _WORTH_WAITING]
            if any(other.unread[: len(begin)] == begin for other in group):
                continue
        group.append(sequence)
        tokens, longest = tokens + rest, max(longest, rest)
    return group
