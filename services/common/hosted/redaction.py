"""What providers say in errors, safe to pass on: bounded, and without a key in it.

The text of a completion passes unchanged. It is the result of the call, a model never sees
the key, and a text that comes in pieces could not be searched.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MAX_LENGTH = 500
_HIDDEN = "[key]"

#: Characters of a secret: fewer make a word, which stands in texts by itself; still fewer
#: are no secret.
_LONG, _SHORT = 8, 4

#: How much of a text is searched, in lengths of what is shown of it.
_SEARCHED = 4

# Shapes of keys, for those that a provider repeats in part: it masks the middle.
_KEY_LIKE = re.compile(
    r"\b(?:(?:sk|gsk|csk|fw|xai|pplx|tgp|hf|r8|nvapi)[-_]|AIza)[\w*.\-]{4,}"
    r"|(?i:\bbearer\s+)[\w*.~+/=\-]{6,}"
)


class Redactor:
    """Takes every key that the service knows out of a text."""

    def __init__(self, secrets: Iterable[str | None]) -> None:
        both = {form for secret in secrets if secret for form in (secret, secret.strip())}
        known = {secret for secret in both if len(secret.strip()) >= _SHORT}
        words = {secret for secret in known if len(secret.strip()) < _LONG}
        forms = {form for secret in known - words for form in _forms(secret)}
        patterns = [
            # The longest first: one key may begin with another.
            *(f"(?i:{re.escape(form)})" for form in sorted(forms, key=len, reverse=True)),
            *(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words),
        ]
        self._secrets = re.compile("|".join(patterns)) if patterns else None
        self._longest = max(map(len, forms | words), default=0)

    def hide(self, text: str) -> str:
        """The text with "[key]" in place of each key that the service knows."""
        return text if self._secrets is None else self._secrets.sub(_HIDDEN, text)

    def __call__(self, text: str, most: int = MAX_LENGTH) -> str:
        """The text in one line of at most `most` characters, keys replaced by "[key]"."""
        # The search takes its time, so not in all of a long text: blanks will go, and at
        # the end of this beginning there may be a part of a key.
        beginning = _SEARCHED * most + self._longest
        text, rest = text[:beginning], text[beginning:]
        text = self.hide(text)
        if rest:
            text = text[: len(text) - self._longest]
        text = _KEY_LIKE.sub(_HIDDEN, text)
        text = " ".join(text.split())
        return text if len(text) <= most else text[: most - 3] + "..."


def _forms(secret: str) -> Iterator[str]:
    """The secret in every way in which an answer may repeat it."""
    data = secret.encode("utf-8", "surrogateescape")
    yield from (secret, html.escape(secret), repr(secret)[1:-1])
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    yield from (quote(data, safe=""), quote_plus(data))
    for encode in (b64encode, urlsafe_b64encode):
        # In base64 alone or within a longer text, such as "user:key": by where it begins, it
        # comes in one of three ways. What its neighbours decide too is left out.
        for before in range(3):
            encoded = encode(b"\0" * before + data).decode().rstrip("=")
            whole = (len(data) + before) % 3 == 0
            yield encoded[-(-before * 8 // 6) : None if whole else -1]
