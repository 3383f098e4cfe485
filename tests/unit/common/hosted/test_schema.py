"""JSON schemas of callers: what is accepted, what is refused, and that none holds a service.

The schemas that would hold it take years if nothing bounds them, so a test that hangs here
shows that a bound is gone.
"""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest

from services.common.errors import InvalidRequest
from services.common.hosted.schema import MAX_COMPARISONS, Schema

pytestmark = pytest.mark.timeout(30)


def _fan_out(keyword: str, levels: int, where: str = "$defs") -> dict[str, Any]:
    """Definitions of which each refers twice to the next: 2 ** levels subschemas."""
    twice = {i: [{"$ref": f"#/{where}/d{i + 1}"}] * 2 for i in range(levels)}
    if keyword in ("properties", "dependentSchemas"):
        parts = {
            f"d{i}": {keyword: dict(zip("ab", pair, strict=True))} for i, pair in twice.items()
        }
    elif keyword == "if":
        parts = {f"d{i}": {"if": pair[0], "then": pair[1]} for i, pair in twice.items()}
    elif keyword == "items":
        parts = {f"d{i}": {"items": pair[0], "contains": pair[1]} for i, pair in twice.items()}
    else:
        parts = {f"d{i}": {keyword: pair} for i, pair in twice.items()}
    return {where: {**parts, f"d{levels}": {"type": "integer"}}, "$ref": f"#/{where}/d0"}


def _named(keyword: str, levels: int) -> dict[str, Any]:
    """The same by names, with false ones in places where no schema stands."""
    definitions = {
        f"d{i}": {"$anchor": f"d{i}", keyword: [{"$ref": f"#d{i + 1}"}] * 2} for i in range(levels)
    }
    false = [{"$anchor": f"d{i}"} for i in range(levels)]
    last = {"$anchor": f"d{levels}", "type": "integer"}
    return {"$defs": {**definitions, "end": last}, "$ref": "#d0", "examples": false}


@pytest.mark.parametrize(
    "schema",
    [
        *(_fan_out(keyword, 64) for keyword in ("anyOf", "oneOf", "allOf", "prefixItems")),
        *(_fan_out(keyword, 64) for keyword in ("properties", "dependentSchemas", "if", "items")),
        _fan_out("anyOf", 64, where="components"),
        _fan_out("allOf", 300),
        _named("anyOf", 64),
        {"anyOf": [{"type": "integer"}] * (MAX_COMPARISONS + 1)},
    ],
)
def test_references_that_fan_out_are_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="too complex") as caught:
        Schema(json.dumps(schema))
    assert caught.value.field == "constraint.json_schema"


@pytest.mark.parametrize(
    "pattern", ["^(a+)+$", "^(a|a)*$", "^(?=(a+)+b)(a+)+b$", r"^(a*)*\1b$", r"(.*)(.*)(.*)(.*)\1b"]
)
def test_a_pattern_takes_no_exponential_time(pattern: str) -> None:
    assert not Schema(json.dumps({"pattern": pattern})).accepts(json.dumps("a" * 5_000 + "!"))


@pytest.mark.parametrize("keyword", ["unevaluatedProperties", "unevaluatedItems"])
@pytest.mark.parametrize("inner", ["allOf", "anyOf", "oneOf", "if", "not", "contains", "$ref"])
def test_unevaluated_within_unevaluated_multiplies(keyword: str, inner: str) -> None:
    """The library visits the inner one several times, at each level."""

    def nested(levels: int) -> str:
        schema: dict[str, Any] = {"properties": {"a": True}, "prefixItems": [True]}
        definitions: dict[str, Any] = {}
        for level in range(levels):
            definitions[f"d{level}"] = schema
            part: Any = f"#/$defs/d{level}" if inner == "$ref" else schema
            schema = {inner: [part] if inner.endswith("Of") else part, keyword: False}
        return json.dumps(schema | {"$defs": definitions if inner == "$ref" else {}})

    with pytest.raises(InvalidRequest, match="too complex"):
        Schema(nested(30))
    Schema(nested(4))


def test_closed_objects_within_closed_objects_do_not_multiply() -> None:
    schema: dict[str, Any] = {"type": "integer"}
    value: Any = 1
    for _ in range(30):
        schema = {"properties": {"a": schema}, "unevaluatedProperties": False}
        value = {"a": value}
    assert Schema(json.dumps(schema)).accepts(json.dumps(value))
    assert not Schema(json.dumps(schema)).accepts(json.dumps({**value, "b": 1}))


SLOW = ("(?=b)[ab]*a[ab]{1000}c", "(?!c)(?:[ab]*a[ab]{60}){3}c", "(?:[ab]*a[ab]{300}){3}[cd]")


@pytest.mark.parametrize("pattern", SLOW)
def test_a_slow_pattern_is_not_tried_on_a_long_reply(pattern: str) -> None:
    """Of the first a text of 3,000 letters would take 15 s, although no pattern is larger."""
    dice = random.Random(7)  # noqa: S311 - the same text each time
    letters = "".join(dice.choice("ab") for _ in range(200_000))
    schema = Schema(json.dumps({"properties": {"a": {"pattern": pattern}}}))
    assert not schema.accepts(json.dumps({"a": letters[:200]}))
    for reply in ({"a": letters}, {letters: 1}, [letters]):
        with pytest.raises(InvalidRequest, match="patterns that are too complex"):
            schema.accepts(json.dumps(reply))


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"pattern": "a"}] * 201},
        {"patternProperties": {f"a{i}": {} for i in range(201)}},
        {"$defs": {"a": {"pattern": "a"}}, "allOf": [{"$ref": "#/$defs/a"}] * 201},
    ],
)
def test_many_patterns_are_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="more than 200 patterns"):
        Schema(json.dumps(schema))


@pytest.mark.parametrize(
    "pattern", [r"\p{L}{300}", "(a{1000}b){100}", "(?=(((a{100}){100}){100}))"]
)
def test_a_large_pattern_is_refused(pattern: str) -> None:
    """Each takes a tenth of a second to compile, in 12 characters."""
    with pytest.raises(InvalidRequest, match="or one that is too large"):
        Schema(json.dumps({"pattern": pattern}))


@pytest.mark.parametrize(
    ("pattern", "fits", "fails"),
    [
        (r"^\p{L}+$", "grüße", "7"),
        (r"^(?!\s*$).+", "a" * 4_000, " "),
        (r"^(?=.*[A-Z])(?=.*\d).{8,64}$", "Passw0rdPassw0rd", "password"),
        (r"^(?!\.)(?!.*\.\.)[a-z0-9.+-]*@([a-z0-9-]+\.)+[a-z]{2,}$", "a@b.example", "a..b@c.d"),
        (r"^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
         "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
    ],
)  # fmt: skip
def test_usual_patterns(pattern: str, fits: str, fails: str) -> None:
    """In schemas beside long texts, too."""
    schema = Schema(json.dumps({"properties": {"a": {"pattern": pattern}, "b": True}}))
    for beside in ("", "words " * 500):
        assert schema.accepts(json.dumps({"a": fits, "b": beside}))
        assert not schema.accepts(json.dumps({"a": fails, "b": beside}))


@pytest.mark.parametrize("depth", [5, 100])
def test_references_back_do_not_multiply(depth: int) -> None:
    def node(operator: str) -> dict[str, Any]:
        properties = {"left": {"$ref": "#/$defs/node"}, "operator": {"const": operator}}
        return {"type": "object", "properties": properties, "required": ["left", "operator"]}

    branches = [node("+"), node("-"), {"const": 1}]
    schema = Schema(json.dumps({"$defs": {"node": {"anyOf": branches}}, "$ref": "#/$defs/node"}))
    for leaf, fits in ((1, True), (2, False)):
        reply: Any = leaf
        for _ in range(depth):
            reply = {"left": reply, "operator": "-"}
        assert schema.accepts(json.dumps(reply)) == fits


def test_a_large_reply_to_a_complex_schema_is_refused() -> None:
    schema = Schema(json.dumps({"items": {"anyOf": [{"type": "integer"}] * 5_000}}))
    assert schema.accepts("[1, 2, 3]")
    with pytest.raises(InvalidRequest, match="too complex"):
        schema.accepts(json.dumps([1] * 10_000))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not a JSON schema: Expecting property name"),
        ('{"type": "nonsense"}', 'is not a JSON schema: at type: "nonsense" is not valid'),
        (
            '{"properties": {"a": {"minimum": "x"}}}',
            'is not a JSON schema: at properties/a/minimum: "x" is not of type "number"',
        ),
        ('{"pattern": "("}', 'is not a JSON schema: at pattern: "(" is not a "regex"'),
        ("5", "is not a JSON schema: 5 is not of type"),
        ("[]", "is not a JSON schema: [] is not of type"),
        ('{"multipleOf": 0}', "is not a JSON schema: at multipleOf: 0 is less than"),
        ('{"$ref": "#/$defs/none"}', "is not a JSON schema: Pointer '/$defs/none' does not exist"),
        ('{"$ref": "#none"}', "is not a JSON schema: "),
        ('{"$ref": "http://127.0.0.1:1/s.json"}', "refers to a schema outside itself"),
        ('{"items": {"$ref": "file:///etc/passwd"}}', "refers to a schema outside itself"),
        ('{"$defs": {"a": {"$ref": "other#/a"}}, "$ref": "#/$defs/a"}', "refers to a schema out"),
        ('{"items": {"$id": "http://a/b", "type": "integer"}}', "has an $id below its top level"),
        ('{"minimum": NaN}', "is not a JSON schema: "),
        ('{"const": "\ud800"}', "is not a JSON schema: "),
        ('{"const": ' + "9" * 5_000 + "}", "is not a JSON schema: "),
        ('{"not":' * 5_000 + "{}" + "}" * 5_000, "is not a JSON schema: it is nested too deeply"),
        ('{"not":' * 400 + "{}" + "}" * 400, "is not a JSON schema: it is nested too deeply"),
    ],
)
def test_what_is_no_schema_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Schema(text)
    assert f"constraint.json_schema {reason}" in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("text", ["", "{", "[1", '"\ud800"', "NaN", "9" * 5_000, "[" * 100_000])
def test_a_reply_that_is_no_json_does_not_fit(text: str) -> None:
    assert not Schema('{"type": ["integer", "string"]}').accepts(text)


def test_the_verdict_is_that_of_another_library() -> None:
    """Random schemas and replies: the same verdict as jsonschema's."""
    rng = random.Random(7)  # noqa: S311 - the same schemas each time
    verdicts = []
    for _ in range(300):
        schema = _random_schema(rng, 3)
        ours, theirs = Schema(json.dumps(schema)), jsonschema.Draft202012Validator(schema)
        for _ in range(5):
            reply = _random_value(rng, 3)
            verdicts.append(theirs.is_valid(reply))
            assert ours.accepts(json.dumps(reply)) == verdicts[-1], (schema, reply)
    assert 0.2 < sum(verdicts) / len(verdicts) < 0.8


def _random_schema(rng: random.Random, depth: int) -> dict[str, Any]:
    leaves: list[dict[str, Any]] = [
        {"type": "integer", "minimum": 1},
        {"type": ["object", "string"]},
        {"enum": [1, "a", []]},
        {
            "type": "object",
            "required": ["a"],
            "additionalProperties": False,
            "properties": {"a": {}},
        },
        {"type": "array", "minItems": 1, "uniqueItems": True},
        {"type": "string", "pattern": "^a+$"},
    ]
    if depth == 0 or rng.random() < 0.3:
        return rng.choice(leaves)
    several = [_random_schema(rng, depth - 1) for _ in range(rng.randint(1, 3))]
    first = several[0]
    return rng.choice(
        [
            {"anyOf": several},
            {"oneOf": several},
            {"allOf": several},
            {"not": first},
            {"if": first, "then": several[-1]},
            {"properties": {"a": first, "b": several[-1]}},
            {"items": first},
            {"prefixItems": several},
            {"contains": first},
        ]
    )


def _random_value(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(6) if depth else rng.randrange(4)
    if kind == 4:
        return [_random_value(rng, depth - 1) for _ in range(rng.randint(0, 3))]
    if kind == 5:
        return {
            name: _random_value(rng, depth - 1) for name in rng.sample("abc", rng.randint(0, 2))
        }
    return rng.choice([0, 1, 2.5, "a", "aa", "b", None, True, [], {}])
