"""Recognises errors that a provider reports only in words, or with a name that says too little.

The words come from public reports about many providers, gateways and local servers.
tests/unit/common/hosted/test_wording.py has a table of them.
"""

from __future__ import annotations

import re

from services.common.errors import (
    ApiKeyRejected,
    BackendError,
    ContextTooLong,
    InsufficientCredits,
    InvalidRequest,
)

_NEAR = r"(?:[^.;]|\.(?=\d)){0,90}?"
_CONTEXT = r"\bcontext[ _-]?(?:length|window|limit|size)\b"
_MORE = r"(?:longer|larger|greater|more tokens) than"
_EXCEEDS = rf"(?:exceed\w*|overflow\w*|surpass\w*|{_MORE}|beyond|over the)"
_TOO = r"(?:too long|too large|too big|too many tokens)"
_MOST = r"(?:max(?:imum)?\b|too (?:long|large)|reached)"
_PROMPT = r"\b(?:prompts?|inputs?|messages|conversation|request(?:ed)?|total)\b`?"

#: prompt + max_tokens are longer than the model's context.
_TOO_LONG = re.compile(
    "|".join(
        (
            rf"(?:{_EXCEEDS}|{_MOST}){_NEAR}{_CONTEXT}",
            rf"{_CONTEXT}{_NEAR}(?:{_EXCEEDS}|of only|too (?:small|short))",
            r"\bmaximum model length|\bmax_model_len",
            r"\bmax(?:imum)? (?:prompt|sequence|input) length",
            rf"(?!total){_PROMPT} (?:\w+ ){{0,3}}(?:is |are |was )?{_TOO}",
            rf"{_PROMPT}{_NEAR}\btokens?\b{_NEAR}(?:{_EXCEEDS}|cannot be more|up to \d|{_TOO})",
            rf"{_PROMPT}{_NEAR}\btokens?\b{_NEAR}must (?:be|have) (?:<=?|≤|less|at most|fewer)",
            rf"{_PROMPT} (?:\w+ )?{_EXCEEDS}{_NEAR}(?:\btokens?\b|max(?:imum)? length)",
            rf"{_PROMPT}{_NEAR}must (?:be|have) (?:less|fewer) than \d+ tokens",
            rf"{_PROMPT} length{_NEAR}(?:{_EXCEEDS}|≤|<=|should be \[)",
            r"exceeded by \d+ tokens|too many (?:input |prompt )?tokens",
            r"(?:content|input)(?:\[\d+\])?(?:\.text)?['\"`]?: string too long",
            r"body too large for\b.{0,60}\btokens",
            r"reduce the length of the (?:messages|prompt|input)",
            r"exceed_context_size|context_length_exceeded|输入.{0,12}(?:过长|超过|超出|超长)",
        )
    ),
    re.IGNORECASE,
)
#: Not the context but max_tokens alone, or a limit per minute.
_OTHER_LIMIT = re.compile(
    r"per[ _-](?:minute|min\b|day|hour)|\b[tr]p[md]\b|rate limit"
    r"|(?:maximum value for|value of) `?max_\w*tokens"
    r"|(?<!\+ )(?<!\+ [`'\"])max_\w*tokens[`'\"]? must be"
    r"|\b(?:output|completion) tokens for\b|number of output tokens|budget_tokens",
    re.IGNORECASE,
)
#: One call needs more than a minute's tokens, so that no wait helps.
_NEVER_FITS = re.compile(
    r"request too large for.{0,400}?\blimit:? \d+,? requested:? \d+", re.IGNORECASE | re.DOTALL
)
_NO_CREDIT = re.compile(
    r"insufficient[ _-](?:credits?|balance|funds|quota|account balance)|balance is (?:too low|not)"
    r"|(?:out of|not enough|no remaining|used all available) credits|billing[ _]hard[ _]limit"
    r"|balance (?:too low|insufficient)|余额不足|欠费|账户已欠费",
    re.IGNORECASE,
)
#: OpenAI's words for a quota that only a payment raises. Google uses them for limits per minute.
_QUOTA = re.compile(r"exceeded your current quota, please check your plan", re.IGNORECASE)
_PER_TIME = re.compile(r"quota exceeded for|retry in|per[ _-]?(?:minute|day)", re.IGNORECASE)
_BAD_KEY = re.compile(
    r"(?:incorrect|invalid|expired|unknown) api[ _-]?key"
    r"|api[ _-]?key (?:is )?(?:not valid|invalid|expired|not found|incorrect)",
    re.IGNORECASE,
)


def find_kind(message: str, status: int, waits: bool = False) -> type[BackendError] | None:
    """Return the class of error that a message describes; None if the status says all.

    status: the HTTP status of the error. waits: whether the provider asks for a wait.
    """
    if status in (400, 403, 412, 429) and _NO_CREDIT.search(message):
        return InsufficientCredits
    if status == 429:
        if _NEVER_FITS.search(message):
            return InvalidRequest
        if not waits and _QUOTA.search(message) and not _PER_TIME.search(message):
            return InsufficientCredits
        return None
    if status in (400, 403) and _BAD_KEY.search(message):
        return ApiKeyRejected
    # Some local servers send a context that is too long with 500.
    if status in (400, 404, 413, 422, 500, 502) and not _OTHER_LIMIT.search(message):
        return ContextTooLong if _TOO_LONG.search(message) else None
    return None
