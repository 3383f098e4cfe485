"""Keys in the environment: read in one way, checked, and kept out of texts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import parse_qsl, urlsplit

import structlog

from services.common.environment import matches
from services.common.errors import ApiKeyMissing, ApiKeyRejected, BackendError

log = structlog.get_logger()

#: Variables whose values no text may show.
_SECRET = (
    *("*KEY", "*_KEY_*", "*KEY_ID", "*TOKEN", "*SECRET*", "*PASSWORD*", "*CREDENTIALS*"),
    *("*JWT*", "*_AUTH"),
)
#: ... and those whose values go into an HTTP header.
_HEADER = ("*_KEY", "*_KEY_ID", "*_TOKEN")

#: Variables that hold a URL, which may hold a key in turn.
_URLS = ("*_API_BASE", "*_BASE_URL", "*_URL", "*_proxy", "*_PROXY")


@dataclass(frozen=True)
class Keys:
    """What the environment holds for one service.

    secrets: what no text may show, as it was set and as it is sent. unusable: variables
    whose values cannot be sent, with the reason.
    """

    secrets: frozenset[str]
    unusable: dict[str, str]

    def problem(self, *variables: str) -> BackendError:
        """The error for variables that are all needed and hold nothing that can be sent."""
        for variable in variables:
            if variable in self.unusable:
                return ApiKeyRejected(
                    f"{variable} {self.unusable[variable]}, so it cannot be sent as a key: put "
                    "the key alone into .env or the environment, then make down and make up",
                    metadata={"variable": variable},
                )
        also = "".join(f"; {name} {reason}" for name, reason in self.unusable.items())
        return ApiKeyMissing(
            f"{', '.join(variables)} is not set: put it into .env or the environment, then "
            f"make down and make up{also}",
            metadata={"variable": variables[0]},
        )


def load_keys(patterns: Sequence[str]) -> Keys:
    """Clean the variables that match in the environment, and say what they hold.

    Blanks and quotes around a value go. A variable without a value, or with one that
    cannot be sent, is unset: libraries would take it for a key.
    """
    secrets = set(_secrets())
    unusable = {}
    for name, raw in list(os.environ.items()):
        if not matches(name, patterns):
            continue
        value = _bare(raw)
        reason = _unsendable(value) if any(fnmatchcase(name, kind) for kind in _HEADER) else ""
        if reason:
            unusable[name] = reason
            log.warning("unusable key", variable=name, reason=reason)
        if reason or not value:
            del os.environ[name]
        else:
            os.environ[name] = value
    return Keys(frozenset(secrets.union(_secrets())), unusable)


def url_secrets(url: str | None) -> Iterator[str]:
    """What a URL holds of a secret: user, password, values of its query."""
    with suppress(ValueError):
        parts = urlsplit(url or "")
        yield from filter(None, (parts.username, parts.password))
        yield from (value for _, value in parse_qsl(parts.query))


def _secrets() -> Iterator[str]:
    for name, value in os.environ.items():
        if any(fnmatchcase(name, pattern) for pattern in _SECRET):
            yield value
            yield value.strip()
            with suppress(ValueError):  # a credentials file that stands in a variable
                yield from document_secrets(json.loads(value))
        elif any(fnmatchcase(name, pattern) for pattern in _URLS):
            yield from url_secrets(value)


def document_secrets(document: object, secret: bool = False) -> Iterator[str]:
    """The texts in a document that stand under the name of a secret or of a header.

    secret: whether the whole document stands under such a name.
    """
    if isinstance(document, Mapping):
        for name, value in document.items():
            kinds = (*_SECRET, "*HEADERS", "AUTHORIZATION")
            named = any(fnmatchcase(str(name).upper(), kind) for kind in kinds)
            yield from document_secrets(value, secret or named)
    elif isinstance(document, str) and secret:
        yield document
        yield document.rpartition(" ")[2]  # of "Bearer KEY"


def _bare(value: str) -> str:
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1].strip()
    return value


def _unsendable(value: str) -> str:
    """Why no header can carry the value; "" if one can, or if it is a document of its own."""
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
