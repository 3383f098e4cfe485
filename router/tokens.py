"""The file of tokens: who may call which models, and how much a day.

The file has only the hash of each token. A token has 256 random bits, so that a plain SHA-256
cannot be reversed; `arena-llm token new NAME` makes one.
"""

from __future__ import annotations

import hmac
from decimal import Decimal
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BeforeValidator, Field, PositiveInt, StringConstraints, model_validator

from services.common.config import StrictModel, load_config

#: A name appears in logs and metrics.
TokenName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class TokenEntry(StrictModel):
    """One token. A limit that is None does not apply.

    sha256: of the token, in hexadecimal. models: the prefixes of the models that it may call.
    calls_per_day, tokens_per_day, usd_per_day: from midnight to midnight, UTC. They are checked
    before a call, so that running calls may exceed them. max_in_flight: calls at a time.
    """

    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    models: Annotated[tuple[str, ...], Field(min_length=1)] = ("",)
    calls_per_day: PositiveInt | None = None
    tokens_per_day: PositiveInt | None = None
    usd_per_day: Annotated[Decimal, Field(gt=0)] | None = None
    max_in_flight: PositiveInt | None = None

    @cached_property
    def has_day(self) -> bool:
        """Whether it has a daily limit."""
        limits = (self.calls_per_day, self.tokens_per_day, self.usd_per_day)
        return any(limit is not None for limit in limits)

    def may_call(self, model: str) -> bool:
        """Whether the token may call a model, by the model's full name."""
        return model.startswith(self.models)


def _read_entries(value: Any) -> Any:
    return {} if value is None else value


class TokensFile(StrictModel):
    """The file of tokens. Without an entry, all calls are refused."""

    tokens: Annotated[dict[TokenName, TokenEntry], BeforeValidator(_read_entries)]

    @model_validator(mode="after")
    def _check_hashes(self) -> Self:
        names: dict[str, str] = {}
        for name, entry in self.tokens.items():
            if (other := names.setdefault(entry.sha256, name)) != name:
                raise ValueError(f"{other} and {name} have the same hash: make another token")
        return self


class TokenHolder(NamedTuple):
    """Who makes a call. It holds for the whole call, even if the file changes meanwhile."""

    name: str
    entry: TokenEntry


class TokenTable:
    """The tokens by their hashes."""

    def __init__(self, tokens: dict[str, TokenEntry]) -> None:
        self.entries = tokens
        #: By the first half of the hash. The other half is compared in constant time.
        self._holders = {
            (digest := bytes.fromhex(entry.sha256))[:16]: (digest, TokenHolder(name, entry))
            for name, entry in tokens.items()
        }

    @classmethod
    def load(cls, path: Path) -> TokenTable:
        """Read the file. Raises ConfigError."""
        return cls(load_config(path, TokensFile).tokens)

    def find(self, token: str) -> TokenHolder | None:
        """Return who holds a token; None if it is unknown. Takes 2 us."""
        digest = sha256(token.encode(errors="replace")).digest()
        known, holder = self._holders.get(digest[:16], _NOBODY)
        return holder if hmac.compare_digest(known, digest) else None


_NOBODY: tuple[bytes, TokenHolder | None] = (b"", None)
