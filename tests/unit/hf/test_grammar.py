"""Constraints: any sequence of allowed tokens gives a text that the constraint accepts."""

from __future__ import annotations

import json
import random
import re

import pytest

from arena_llm.types import (
    AnyJsonObject,
    Choices,
    Constraint,
    Grammar,
    GrammarSyntax,
    JsonSchema,
    Regex,
)
from services.common.errors import InvalidRequest
from services.hf.loading import LoadedModel
from services.hf.text import TextStream
from tests.unit.hf.conftest import Models

BYTE_LEVEL, UNIGRAM = "llama", "t5"


def written(loaded: LoadedModel, constraint: Constraint, seed: int = 0, most: int = 2000) -> str:
    """A text of randomly drawn allowed tokens."""
    draw = random.Random(seed)  # noqa: S311
    matcher = loaded.grammars.compile(constraint)
    stream = TextStream(strip_space=loaded.vocabulary.spaced)
    for _ in range(most):
        token = draw.choice(matcher.allowed().nonzero()[0].tolist())
        matcher.consume(token)
        if token in loaded.eos:
            break
        stream.push(loaded.vocabulary.token_bytes(token))
        if matcher.complete:
            break
    else:
        raise AssertionError("it does not end")
    stream.finish()
    return stream.text


#: Choices that tokenizers split in unusual ways.
ODD = [
    "1", "10", "100", "e4", "Yes", "yes", " x", "x ", '"quoted"', "back\\slash", "two\nlines",
    "tab\t", "é", "e\u0301", "日本", "😀", "👨\u200d👩\u200d👧", "\x00", "\x7f", "/a/", "a|b",
    "<|im_end|>", "{}", "%d", "\u2581", "\\n", "'",
]  # fmt: skip


def test_only_the_choices_can_be_written(model: Models) -> None:
    loaded = model(BYTE_LEVEL)
    texts = {written(loaded, Choices(tuple(ODD)), seed) for seed in range(600)}
    assert texts == set(ODD)


@pytest.mark.parametrize("choice", ODD, ids=repr)
def test_a_single_choice_is_written_completely(model: Models, choice: str) -> None:
    assert written(model(BYTE_LEVEL), Choices((choice,))) == choice


@pytest.mark.parametrize("name", [BYTE_LEVEL, UNIGRAM])
def test_a_choice_may_begin_another_choice(model: Models, name: str) -> None:
    values = ("1", "12", "123", "yes", "yes or no")
    texts = {written(model(name), Choices(values), seed) for seed in range(200)}
    assert texts == set(values)


def test_the_largest_number_of_choices(model: Models) -> None:
    values = tuple(f"move {index}" for index in range(4096))
    assert written(model(BYTE_LEVEL), Choices(values)) in values


SCHEMAS = [
    {"type": "integer"},
    {"enum": ["x", "y", 3, None]},
    {"type": "string", "maxLength": 5},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    {
        "type": "object",
        "properties": {
            "move": {"type": "integer", "minimum": 0, "maximum": 8},
            "why": {"enum": ["a"]},
        },
        "required": ["move", "why"],
        "additionalProperties": False,
    },
]  # fmt: skip


def accepts(schema: dict, value: object) -> bool:
    """True if a schema of those above accepts the value."""
    match schema:
        case {"enum": values}:
            return value in values
        case {"type": "integer"}:
            low, high = schema.get("minimum", value), schema.get("maximum", value)
            return isinstance(value, int) and low <= value <= high
        case {"type": "string", "maxLength": most}:
            return isinstance(value, str) and len(value) <= most
        case {"type": "array", "items": items}:
            fits = isinstance(value, list) and 1 <= len(value) <= 3
            return fits and all(accepts(items, item) for item in value)
        case {"type": "boolean"}:
            return isinstance(value, bool)
        case {"properties": properties}:
            fits = isinstance(value, dict) and value.keys() == properties.keys()
            return fits and all(accepts(properties[key], value[key]) for key in properties)
    raise AssertionError(schema)


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_json_schema(model: Models, schema: dict) -> None:
    for seed in range(10):
        text = written(model(BYTE_LEVEL), JsonSchema(json.dumps(schema)), seed)
        assert accepts(schema, json.loads(text)), text


@pytest.mark.parametrize("number", [2**53, -(2**53), 0, True])
def test_exact_numbers_are_written_exactly(model: Models, number: int) -> None:
    schema = {"type": "object", "properties": {"const": {"const": number}}, "required": ["const"],
              "additionalProperties": False, "default": 2**60}  # fmt: skip
    text = written(model(BYTE_LEVEL), JsonSchema(json.dumps(schema)))
    assert json.loads(text) == {"const": number}


@pytest.mark.parametrize("name", [BYTE_LEVEL, UNIGRAM])
@pytest.mark.parametrize(
    "pattern", ["[0-8]", "[a-c]{2,4}", "^(yes|no)$", "a*", "(?i)no", "0?[1-3]"]
)
def test_regex(model: Models, pattern: str, name: str) -> None:
    for seed in range(10):
        text = written(model(name), Regex(pattern), seed)
        assert re.fullmatch(pattern, text), text


def test_any_json_object(model: Models) -> None:
    for seed in range(5):
        text = written(model(BYTE_LEVEL), AnyJsonObject(), seed)
        assert isinstance(json.loads(text), dict), text


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar(GrammarSyntax.LARK, 'start: "(" (start | /[ab]/) ")"'),
        Grammar(GrammarSyntax.GBNF, 'root ::= "(" (root | [ab]) ")"'),
    ],
    ids=str,
)
def test_grammar(model: Models, grammar: Grammar) -> None:
    texts = {written(model(BYTE_LEVEL), grammar, seed) for seed in range(20)}
    for text in texts:
        assert re.fullmatch(r"(\(+)[ab](\)+)", text), text
        assert text.count("(") == text.count(")")
    assert len(texts) > 2


@pytest.mark.parametrize(
    ("constraint", "field"),
    [
        (Grammar(GrammarSyntax.LARK, "start: ("), "constraint.grammar"),
        (Grammar(GrammarSyntax.LARK, "start: other"), "constraint.grammar"),
        (Grammar(GrammarSyntax.LARK, 'root ::= "a"'), "constraint.grammar"),
        (Grammar(GrammarSyntax.GBNF, "root := 1"), "constraint.grammar"),
        (Grammar(GrammarSyntax.GBNF, "root ::= other"), "constraint.grammar"),
        (
            Grammar(GrammarSyntax.LARK, 'start: %json {"type": "integer", "multipleOf": 1000003}'),
            "constraint.grammar",
        ),
        (JsonSchema("{"), "constraint.json_schema"),
        (JsonSchema("5"), "constraint.json_schema"),
        (JsonSchema("true"), "constraint.json_schema"),
        (JsonSchema('{"type": "nope"}'), "constraint.json_schema"),
        (JsonSchema('{"enum": []}'), "constraint.json_schema"),
        # Each would take seconds to hours to compile.
        (JsonSchema('{"type": "integer", "multipleOf": 1000003}'), "constraint.json_schema"),
        (
            JsonSchema('{"items": {"type": "integer", "multipleOf": 9973}, "multipleOf": 9967}'),
            "constraint.json_schema",
        ),
        # It would be rounded.
        (JsonSchema('{"const": 9007199254740993}'), "constraint.json_schema"),
        (JsonSchema('{"enum": ["a", {"b": [-9007199254740993]}]}'), "constraint.json_schema"),
        (JsonSchema('{"items": {"maximum": 18446744073709551616}}'), "constraint.json_schema"),
        (
            Grammar(GrammarSyntax.LARK, 'start: "a" %json {"const": 9007199254740993}'),
            "constraint.grammar",
        ),
        (JsonSchema('{"not": {}}'), "constraint.json_schema"),
        (JsonSchema('{"$ref": "http://127.0.0.1:1/x"}'), "constraint.json_schema"),
        (JsonSchema('{"items":' * 10_000 + "{}" + "}" * 10_000), "constraint.json_schema"),
        (Regex("("), "constraint.regex"),
        (Regex("(?=a)b"), "constraint.regex"),
        (Regex(r"(a)\1"), "constraint.regex"),
        (Regex("(" * 10_000 + "a" + ")" * 10_000), "constraint.regex"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_unusable_constraint_is_refused(
    model: Models, constraint: Constraint, field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        model(BYTE_LEVEL).grammars.compile(constraint)
    assert caught.value.field == field
    assert field in caught.value.message
    assert len(caught.value.message) < 700


def test_a_schema_that_is_not_json_is_named_as_such(model: Models) -> None:
    """For example the name of a file."""
    with pytest.raises(InvalidRequest, match=r"constraint\.json_schema is not JSON: "):
        model(BYTE_LEVEL).grammars.compile(JsonSchema("schema.json"))


@pytest.mark.parametrize(
    ("constraint", "field"),
    [
        (Choices(("😀",)), "constraint.choices"),
        (Choices(("yes😀",)), "constraint.choices"),
        (JsonSchema('{"type": "object"}'), "constraint.json_schema"),
        (Regex("(a|b)😀"), "constraint.regex"),
    ],
    ids=str,
)
def test_a_text_that_the_vocabulary_cannot_write_is_an_error(
    model: Models, constraint: Constraint, field: str
) -> None:
    with pytest.raises(InvalidRequest, match="vocabulary cannot write") as caught:
        written(model(UNIGRAM), constraint)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("é(", "unclosed group at character 2"),
        ("x[z-a]", "invalid character class range, the start must be <= the end at character 3"),
        ("a\n/(", "unclosed group"),
        ("a|(?=b)", "look-around, including look-ahead and look-behind, is not supported"),
        (r"\b", "lookarounds not supported yet"),
        (r"\p{^}(", "unclosed group"),
    ],
)
def test_the_error_of_a_pattern_has_reason_and_place(
    model: Models, pattern: str, reason: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        written(model(BYTE_LEVEL), Regex(pattern))
    assert caught.value.message.startswith(f"constraint.regex cannot be used: {reason}")
    assert "start:" not in caught.value.message


def test_a_grammar_that_becomes_too_complex_is_an_error(model: Models) -> None:
    with pytest.raises(InvalidRequest, match=r"constraint\.regex cannot be used"):
        written(model(BYTE_LEVEL), Regex("a{1000000}"))


def test_the_log_contains_nothing_of_the_request(
    model: Models, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidRequest):
        written(model(UNIGRAM), Choices(("yes😀secret",)))
    assert capfd.readouterr() == ("", "")
