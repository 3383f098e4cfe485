"""What providers say, safe to pass on: bounded, and without a key in it."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_LENGTH = 500
_HIDDEN = "[key]"

# Shapes of keys, for those that a provider repeats in part: it masks the middle.
_KEY_LIKE = re.compile(
    r"\b(?:sk|gsk|fw|xai|pplx|AIza|tgp|hf)[-_][\w*.\-]{4,}|(?i:\bbearer\s+)[\w*.~+/=\-]{6,}"
)


class Redactor:
    """Takes every key that the service knows out of a text."""

    def __init__(self, secrets: Iterable[str | None]) -> None:
        known = {secret for secret in secrets if secret}
        # The longest first: one key may begin with another.
        ordered = sorted(known, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str, most: int = MAX_LENGTH) -> str:
        """The text in one line of at most `most` characters, keys replaced by "[key]"."""
        if self._secrets is not None:
            text = self._secrets.sub(_HIDDEN, text)
        text = _KEY_LIKE.sub(_HIDDEN, text[: 20 * most])
        text = " ".join(text.split())
        return text if len(text) <= most else text[: most - 3] + "..."
