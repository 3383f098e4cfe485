"""Keys are cleaned, refused if they cannot be sent, and hidden in texts."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from services.common.environment import matches
from services.common.errors import ApiKeyMissing, ApiKeyRejected
from services.common.hosted.keys import Redactor, load_keys, url_secrets

KEY = "m12345678/+&'x"

#: What may surround a key in a file or a shell.
PADDED = {
    "plain": "{}",
    "blanks": "  {} ",
    "line break": "{}\n",
    "Windows": "{}\r\n",
    "tab": "\t{}",
    "no-break space": "\u00a0{}\u00a0",
    "quotes": '"{}"',
    "blanks and quotes": " ' {} ' ",
}

#: Values that no HTTP header can carry, or that are not a single key.
UNSENDABLE = {
    "line break": "m123\n45678",
    "carriage return": "m123\r45678",
    "two keys": "m12345678 m87654321",
    "letter": "m12345678\u00fc",
    "look-alike": "m1234\u20115678",
    "invisible": "m12345678\u200b",
    "control": "m1234\x0178",
    "not UTF-8": "m1234\udcfc78",
}


@pytest.mark.parametrize("form", PADDED.values(), ids=PADDED)
def test_a_key_is_cleaned(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    raw = form.format("m12345678")
    monkeypatch.setenv("MINE_API_KEY", raw)
    keys = load_keys(["MINE_*"])
    assert os.environ["MINE_API_KEY"] == "m12345678"
    assert {raw, "m12345678"} <= keys.secrets
    assert not keys.unusable


@pytest.mark.parametrize("value", UNSENDABLE.values(), ids=UNSENDABLE)
def test_a_key_that_cannot_be_sent_is_unset_and_named(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MINE_API_KEY", value)
    keys = load_keys(["MINE_*"])
    assert "MINE_API_KEY" not in os.environ
    assert value in keys.secrets
    problem = keys.explain("MINE_API_KEY")
    assert isinstance(problem, ApiKeyRejected)
    assert problem.metadata == {"variable": "MINE_API_KEY"}
    assert problem.message.startswith("MINE_API_KEY holds ")
    assert value not in problem.message
    # If another variable of the provider is missing, this one may have been meant.
    missing = keys.explain("OTHER_API_KEY")
    assert isinstance(missing, ApiKeyMissing)
    assert "MINE_API_KEY holds" in missing.message


@pytest.mark.parametrize("empty", ["", " ", "\r\n", '""', "' '"])
def test_an_empty_variable_is_not_a_key(monkeypatch: pytest.MonkeyPatch, empty: str) -> None:
    monkeypatch.setenv("MINE_API_KEY", empty)
    keys = load_keys(["MINE_*"])
    assert "MINE_API_KEY" not in os.environ
    assert isinstance(keys.explain("MINE_API_KEY"), ApiKeyMissing)


def test_documents_and_urls_hold_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents may have line breaks. Their secrets and those of URLs are hidden."""
    document = {"client_email": "a@b.example", "private_key": "-----BEGIN KEY\nabcdefgh"}
    monkeypatch.setenv("MINE_CREDENTIALS", json.dumps(document, indent=1))
    monkeypatch.setenv(
        "MINE_API_BASE", " https://someone:hunter2hunter2@h.example/v1?key=k-123456 "
    )
    keys = load_keys(["MINE_*"])
    assert not keys.unusable
    assert json.loads(os.environ["MINE_CREDENTIALS"]) == document
    assert os.environ["MINE_API_BASE"].startswith("https")
    assert {document["private_key"], "someone", "hunter2hunter2", "k-123456"} <= keys.secrets
    assert "a@b.example" not in keys.secrets
    assert not set(url_secrets("https://h.example/v1")) | set(url_secrets(None))


def test_other_variables_are_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_API_KEY", " x ")
    load_keys(["MINE_*"])
    assert os.environ["OTHER_API_KEY"] == " x "


def _base64(before: str, after: str) -> Callable[[str], str]:
    return lambda key: base64.b64encode(f"{before}{key}{after}".encode()).decode()


#: How a provider or a proxy may repeat a key.
ECHOES: dict[str, Callable[[str], str]] = {
    "plain": str,
    "lower case": str.lower,
    "JSON": json.dumps,
    "repr": repr,
    "bytes": lambda key: repr(key.encode()),
    "URL": lambda key: quote(key, safe=""),
    "URL in lower case": lambda key: quote(key, safe="").lower(),
    "form": lambda key: quote_plus(key),
    "HTML": html.escape,
    "JSON in JSON": lambda key: json.dumps(json.dumps({"key": key})),
    **{
        f"base64 of {before}key{after}": _base64(before, after)
        for before in ("", ":", "u:", "us:", "user:")
        for after in ("", ":", ":x", ":xy")
    },
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("key", [KEY, "planted0123456789", "a" * 8, "ends-with-a-quote'"])
def test_a_key_is_hidden_in_every_form(echo: Callable[[str], str], key: str) -> None:
    echoed = echo(key)
    shown = Redactor([f"  {key} "])(f"Incorrect key: {echoed}, try again")
    assert "[key]" in shown
    assert echoed not in shown
    assert key.lower() not in shown.lower()


def test_short_keys_are_hidden_as_words() -> None:
    redact = Redactor(["abc12", "abc", "", None])
    assert redact("key abc12, abc123, xabc12 and abc") == "key [key], abc123, xabc12 and abc"


@pytest.mark.parametrize(
    "piece", ["sk-proj-ab**cd", "AIzaSyD-abc***", "gsk_abcd", "csk-abcd", "r8_abcd", "nvapi-ab12"]
)
def test_pieces_of_keys_are_hidden(piece: str) -> None:
    assert Redactor([])(f"wrong key {piece}!") == "wrong key [key]!"


def test_a_long_text_shows_no_part_of_a_key() -> None:
    """Wherever it is cut, although blanks and keys before the cut become shorter."""
    key = "planted0123456789"
    redact = Redactor([key])
    for blanks in range(0, 4000, 7):
        shown = redact(f"{key} " * (blanks // 100) + " " * blanks + key + "x" * 5000)
        assert "plant" not in shown
        assert "6789" not in shown


def test_patterns_can_exclude() -> None:
    patterns = ("*_API_KEY", "!OTHER_*")
    assert matches("MINE_API_KEY", patterns)
    assert not matches("OTHER_API_KEY", patterns)
    assert not matches("MINE", patterns)
