"""What is done about an illegal or unparseable reply: `on_illegal` of an experiment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_LAST = "(forfeit|random)"
_WORDS = re.compile(f"retry ([1-9][0-9]?)(?: then {_LAST})?|{_LAST}")


@dataclass(frozen=True, slots=True)
class Policy:
    """retries: how often the same turn is asked again; last: what then."""

    retries: int = 0
    last: Literal["forfeit", "random"] = "forfeit"

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Of "forfeit", "random", "retry N" (then forfeit) or "retry N then random".

        N is 1 to 99. Raises ValueError.
        """
        match = _WORDS.fullmatch(text)
        if match is None:
            raise ValueError(
                f"must be forfeit, random, retry N or retry N then random, not {text!r}"
            )
        retries = int(match[1] or 0)
        return cls(retries, "random" if "random" in (match[2], match[3]) else "forfeit")

    def after(self, attempt: int) -> Literal["retry", "forfeit", "random"]:
        """What to do after the attempt of this number, counted from 0, was no move."""
        return "retry" if attempt < self.retries else self.last
