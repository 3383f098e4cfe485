"""API keys: read from the environment, checked, and hidden in every text that leaves a service.

The text of a completion is not searched for keys. It is the result of the call, a model never
sees the key, and streamed text cannot be searched.
"""

from __future__ import annotations

import html
import json
import os
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

from services.common.environment import matches
from services.common.errors import ApiKeyMissing, ApiKeyRejected, BackendError
from services.common.log import log

#: Variables whose values must not appear in any text.
_SECRET = (
    *("*KEY", "*_KEY_*", "*KEY_ID", "*TOKEN", "*SECRET*", "*PASSWORD*", "*CREDENTIALS*"),
    *("*JWT*", "*_AUTH"),
)
#: Those of them whose values are sent in an HTTP header.
_HEADER = ("*_KEY", "*_KEY_ID", "*_TOKEN")

#: Variables that hold a URL, which may contain a key.
_URLS = ("*_API_BASE", "*_BASE_URL", "*_URL", "*_proxy", "*_PROXY")


@dataclass(frozen=True)
class Keys:
    """The keys of one service.

    secrets: texts that must not be shown, as set in the environment and as sent.
    unusable: variables whose values cannot be sent, with the reason.
    """

    secrets: frozenset[str]
    unusable: dict[str, str]

    def explain(self, *variables: str) -> BackendError:
        """Return the error for required variables that have no usable value."""
        for variable in variables:
            if variable in self.unusable:
                return ApiKeyRejected(
                    f"{variable} {self.unusable[variable]}, so it cannot be sent as a key: put "
                    "the key alone into .env, which running services read again",
                    metadata={"variable": variable},
                )
        also = "".join(f"; {name} {reason}" for name, reason in self.unusable.items())
        return ApiKeyMissing(
            f"{', '.join(variables)} is not set: put it into .env, which running services read "
            f"again{also}",
            metadata={"variable": variables[0]},
        )


def load_keys(patterns: Sequence[str]) -> Keys:
    """Clean the environment variables that match `patterns`, and return the keys in them.

    Whitespace and quotes around a value are removed. A variable without a usable value is
    unset, because libraries would take it for a key.
    """
    secrets = set(_find_secrets())
    unusable = {}
    for name, raw in list(os.environ.items()):
        if not matches(name, patterns):
            continue
        value = _strip(raw)
        reason = _unsendable(value) if any(fnmatchcase(name, kind) for kind in _HEADER) else ""
        if reason:
            unusable[name] = reason
            log.warning("unusable key", variable=name, reason=reason)
        if reason or not value:
            del os.environ[name]
        else:
            os.environ[name] = value
    return Keys(frozenset(secrets.union(_find_secrets())), unusable)


def url_secrets(url: str | None) -> Iterator[str]:
    """Yield the secrets in a URL: user, password, values of the query."""
    with suppress(ValueError):
        parts = urlsplit(url or "")
        yield from filter(None, (parts.username, parts.password))
        yield from (value for _, value in parse_qsl(parts.query))


def document_secrets(document: object, secret: bool = False) -> Iterator[str]:
    """Yield the strings in a document whose key is the name of a secret or of a header.

    secret: whether the whole document is the value of such a key.
    """
    if isinstance(document, Mapping):
        for name, value in document.items():
            kinds = (*_SECRET, "*HEADERS", "AUTHORIZATION")
            named = any(fnmatchcase(str(name).upper(), kind) for kind in kinds)
            yield from document_secrets(value, secret or named)
    elif isinstance(document, str) and secret:
        yield document
        yield document.rpartition(" ")[2]  # the key in "Bearer KEY"


def _find_secrets() -> Iterator[str]:
    for name, value in os.environ.items():
        if any(fnmatchcase(name, pattern) for pattern in _SECRET):
            yield value
            yield value.strip()
            with suppress(ValueError):  # a credentials file inside a variable
                yield from document_secrets(json.loads(value))
        elif any(fnmatchcase(name, pattern) for pattern in _URLS):
            yield from url_secrets(value)


def _strip(value: str) -> str:
    """The value without whitespace and quotes around it."""
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1].strip()
    return value


def _unsendable(value: str) -> str:
    """Why no header can carry the value; "" if one can, or if the value is a document."""
    if value.startswith(("{", "-----BEGIN")):
        return ""
    for place, character in enumerate(value, 1):
        if not character.isascii():
            kind = "a character outside ASCII"
        elif character.isspace():
            kind = "a blank or a line break"
        elif not character.isprintable():
            kind = "a control character"
        else:
            continue
        return f"holds {kind} at place {place} of {len(value)}"
    return ""


# --- redaction -------------------------------------------------------------------------

#: Characters of a redacted text.
MAX_LENGTH = 500
_HIDDEN = "[key]"

#: A secret of at least _LONG characters is hidden anywhere, a shorter one only as a whole word.
#: One with fewer than _SHORT characters is not a secret.
_LONG, _SHORT = 8, 4

#: How much of a text is searched, as a multiple of the length that is shown.
_SEARCHED = 4

# Shapes of keys, because providers repeat keys with the middle masked.
_KEY_LIKE = re.compile(
    r"\b(?:(?:sk|gsk|csk|fw|xai|pplx|tgp|hf|r8|nvapi)[-_]|AIza)[\w*.\-]{4,}"
    r"|(?i:\bbearer\s+)[\w*.~+/=\-]{6,}"
)


class Redactor:
    """Removes all keys that the service knows from a text."""

    def __init__(self, secrets: Iterable[str | None]) -> None:
        texts = {text for secret in secrets if secret for text in (secret, secret.strip())}
        texts = {text for text in texts if len(text.strip()) >= _SHORT}
        words = {text for text in texts if len(text.strip()) < _LONG}
        forms = {form for text in texts - words for form in _encodings(text)}
        patterns = [
            # The longest first, because one key may begin with another.
            *(f"(?i:{re.escape(form)})" for form in sorted(forms, key=len, reverse=True)),
            *(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words),
        ]
        self._secrets = re.compile("|".join(patterns)) if patterns else None
        self._longest = max(map(len, forms | words), default=0)

    def hide(self, text: str) -> str:
        """Replace each key that the service knows by "[key]"."""
        return text if self._secrets is None else self._secrets.sub(_HIDDEN, text)

    def __call__(self, text: str, limit: int = MAX_LENGTH) -> str:
        """The text in one line of at most `limit` characters, with all keys hidden."""
        # Searching a long text is slow, so only its beginning is searched. More than `limit`
        # characters are needed because whitespace will be removed, and the last ones are
        # dropped because they may be a part of a key.
        end = _SEARCHED * limit + self._longest
        text, rest = text[:end], text[end:]
        text = self.hide(text)
        if rest:
            text = text[: len(text) - self._longest]
        text = _KEY_LIKE.sub(_HIDDEN, text)
        text = " ".join(text.split())
        return text if len(text) <= limit else text[: limit - 3] + "..."


def _encodings(secret: str) -> Iterator[str]:
    """Yield the secret in every encoding in which an answer may repeat it."""
    data = secret.encode("utf-8", "surrogateescape")
    yield from (secret, html.escape(secret), repr(secret)[1:-1])
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    yield from (quote(data, safe=""), quote_plus(data))
    for encode in (b64encode, urlsafe_b64encode):
        # Inside a longer text such as "user:key", base64 has one of three forms, which depends
        # on the secret's offset. The characters that its neighbours change are left out.
        for offset in range(3):
            encoded = encode(b"\0" * offset + data).decode().rstrip("=")
            whole = (len(data) + offset) % 3 == 0
            yield encoded[-(-offset * 8 // 6) : None if whole else -1]
