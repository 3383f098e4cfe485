"""What the text around a stated action says: whether it is the model's own choice.

An action that is denied, that is an example, that another player makes or that is taken back is
not a choice. Where these rules are too strict, a reply is lost, but no wrong move is played.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_DENIALS = (
    # Words of other languages that deny what follows.
    r"nicht|nie|niemals|kein\w*|statt|pas|jamais|nunca|jam\u00e1s|n\u00e3o|non(?!-)|\u043d\u0435|"
    r"\u043d\u0438\u043a\u043e\u0433\u0434\u0430"
)
_DENIALS_WITHOUT_SPACES = r"\u4e0d|\u5225|\u522b|\u52ff|\u4e0d\u8981|\u3057\u306a\u3044|\uc54a"
#: The clause before a place is not about the model's own choice.
_NOT_A_CHOICE = re.compile(
    r"\b(?:not|never|\w+n['\u2019]t|cannot|avoid|instead of|rather than|example|e\.g\.|instance|"
    r"such as|wrong|illegal|invalid|bad|could|might|considered|refus\w+|declin\w+|reject\w*|"
    r"looks? like|format (?:is|would|should|has)|includes?|"
    r"(?:previous|last|earlier) (?:action|move|answer|reply)|"
    r"(?:opponent|rival|enemy)['\u2019]s(?: \w+)* (?:action|move|answer|reply)|"
    r"for (?:my |the )?(?:opponent|rival|enemy)|"
    r"(?:he|she|they|you|white|black|player(?: \d+)?) (?:then |may |can |will |would )*"
    r"(?:play|plays|played|answers?|answered|replies|replied|responds?|responded|moves|moved|"
    rf"chooses|chose)|{_DENIALS})\b|{_DENIALS_WITHOUT_SPACES}"
    r"|^\W*(?:(?:if|then|and|but) )?(?:my |the )?(?:opponent|rival|enemy)\b"
    r"|^\W*no\b[^:]*$"
    # A heading of something that is not an answer yet.
    r"|^\W*(?:thinking|thoughts?|reasoning|analysis|draft|plan|idea|option|candidate|alternative|"
    r"format|template|schema)s?\b(?: \w{1,2})?\W*$",
    re.IGNORECASE,
)
#: Text before a label that makes it an example or a format, and not an answer.
_NOT_A_LABEL = re.compile(
    r"\b(?:examples?|format|template|instance|e\.g\.|bad|wrong)\W*$"
    r"|\b(?:not|\w+n['\u2019]t|never) (?:reply|answer|respond|write|say|output)\b",
    re.IGNORECASE,
)
_TAKES_BACK = re.compile(
    r"\b(?:wait|actually|instead|rather|correction|mistake|sorry|hold on|second thought|"
    r"scratch that|not (?:legal|allowed|possible|valid)|illegal|invalid|no[,.!]|nope|change my|"
    r"changed my|oops|hmm+|reconsider|reject|retract|withdraw|kidding|never ?mind|wrong|incorrect|"
    r"(?:ignore|disregard|forget|discard) (?:the|that|this|my|it|what)|"
    r"not (?:my|the) (?:answer|move|action|choice)|take (?:that|it|this) back|i resign|"
    r"think again|bad idea|(?:do not|don['\u2019]t) (?:play|choose|do|use) (?:this|that|it)|"
    r"need (?:a different|another) (?:move|action)|"
    r"(?:this|that|it)(?: move| action| choice)? (?:loses|hangs|fails|blunders|"
    r"(?:is|was|looks|seems|would be) (?:(?:a|an|really|very|too|clearly) )*"
    r"(?:bad|terrible|awful|poor|losing|weak|blunder|not (?:so |very )?good))\b|"
    r"(?:nein|doch lieber|stattdessen|finalement|plut\u00f4t|en realidad|mejor no|"
    r"\u043d\u0435\u0442)\b)|\u6539\u53d8\u4e3b\u610f|\u4e0d\u5bf9|\u7b49\u7b49|\u7b49\u4e00\u4e0b|\u5f85\u3063\u3066",
    re.IGNORECASE,
)
#: Text after an object that only talks about it: "would lose". But "is my move" states a choice.
_SPOKEN_ABOUT = re.compile(
    r"[ \t`]*(?:\?|(?:is|was|would|will|could|might|may|can|cannot|can['\u2019]t|seems|looks|"
    r"loses|lost|fails|hangs|blunders|does|doesn['\u2019]t|allows)\b"
    r"(?! (?:my|the (?:best|right)|best|good|strong)\b))"
)
#: What separates an object from the text before it.
_BEFORE = re.compile(r"(?:\s|`{3}\w*|~{3}\w*|[*_\[(\"'`])+$")
#: Characters before a place that are looked at.
_CLAUSE = 200


def is_denied(before: str, after: str = "") -> bool:
    """Whether the sentence around an object says that it is not the model's choice."""
    return bool(_NOT_A_CHOICE.search(_find_clause(before)) or _SPOKEN_ABOUT.match(after))


def is_no_label(before: str, *, in_sentence: bool) -> bool:
    """Whether the text before a label denies it. in_sentence: it may stand within a line."""
    if in_sentence and before.rpartition("\n")[2].strip():
        return is_denied(before)
    return bool(_NOT_A_LABEL.search(_find_clause(before)))


def takes_back(after: str) -> bool:
    """Whether the text after a choice takes it back."""
    return bool(_TAKES_BACK.search(after))


#: Keys beside an action that say what became of it, and the words of such a value that reject it.
_STATUS = frozenset(("status", "state", "verdict"))
_REJECTED = re.compile(
    r"\b(?:reject(?:ed)?|illegal|invalid|refused|denied|declined|discarded|dismissed|excluded|"
    r"forbidden|impossible|abandoned|withdrawn|retracted|unavailable|not\s+(?:legal|allowed|valid|"
    r"possible|chosen|selected|accepted|approved|played|available|final))\b",
    re.IGNORECASE,
)
#: Keys whose yes or no accepts or rejects the action.
_ACCEPTS = frozenset(
    ("legal", "valid", "chosen", "selected", "accepted", "allowed", "possible", "approved")
)
_REJECTS = frozenset(("rejected", "illegal", "invalid", "discarded", "refused", "forbidden"))
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")


def rejects_itself(pairs: Iterable[tuple[str, object]]) -> bool:
    """Whether an object rejects the action that it names. pairs: its keys and values."""
    for key, value in pairs:
        name = key.strip().lower().removeprefix("is").strip(" _-")
        text = str(value).strip().lower()
        if (
            (name in _STATUS and isinstance(value, str) and _REJECTED.search(text))
            or (name in _ACCEPTS and text in _NO)
            or (name in _REJECTS and text in _YES)
        ):
            return True
    return False


def _find_clause(before: str) -> str:
    """The last clause of the text before a place."""
    text = _BEFORE.sub("", before[-_CLAUSE:])
    return re.split(
        r"[.!?;,\n](?=\s|$)|[\n\u3002\uff01\uff1f\uff1b\uff0c]",
        text.removesuffix(".") if text.endswith("..") else text,
    )[-1]
