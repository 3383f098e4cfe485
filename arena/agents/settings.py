"""The settings of the built-in agents, as an experiment's file contains them."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    create_model,
)
from pydantic_core import ErrorDetails

from arena.agents.template import STANDARD, load_template
from arena_llm.suggestions import did_you_mean, strip_label
from arena_llm.types import PARAMETERS, Parameter

#: How a model replies. json: a JSON object with its reasoning and one of the legal actions; a
#: constraint enforces it where the backend has structured output. free: the same object, written
#: freely in every case. choices: a constraint makes it write exactly one legal action. score: it
#: writes nothing; the probabilities of the legal actions, in quotes, are read instead.
ReplyFormat = Literal["json", "free", "choices", "score"]


class StrictModel(BaseModel):
    """A mapping of a YAML file: unknown keys are errors, and values are not converted."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )


_LAST = "(forfeit|random)"
_POLICY = re.compile(f"retry ([1-9][0-9]?)(?: then {_LAST})?|{_LAST}")


@dataclass(frozen=True, slots=True)
class Policy:
    """What happens after an illegal or unparseable reply: the setting `on_illegal`.

    retries: how many more times the player is asked at the same turn. last: what happens
    after these retries.
    """

    retries: int = 0
    last: Literal["forfeit", "random"] = "forfeit"

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Read "forfeit", "random", "retry N" (then forfeit) or "retry N then random".

        N is 1 to 99. Raises ValueError.
        """
        match = _POLICY.fullmatch(text)
        if match is None:
            raise ValueError("must be forfeit, random, retry N or retry N then random")
        retries = int(match[1] or 0)
        return cls(retries, "random" if "random" in (match[2], match[3]) else "forfeit")

    def after(self, attempt: int) -> Literal["retry", "forfeit", "random"]:
        """What happens after an attempt failed; attempts are numbered from 0."""
        return "retry" if attempt < self.retries else self.last


class AgentSettings(StrictModel):
    """Base class of the settings of every type of agent.

    type: the name in the file: a built-in type, an entry point, or package.module:Class.
    """

    type: str

    @property
    def policy(self) -> Policy:
        """What happens after an illegal reply. Default: the player forfeits the game."""
        return Policy()


def _check_policy(text: str) -> str:
    Policy.parse(text)
    return text


#: The client's options that an experiment can set. The seed comes from each turn.
_PARAMETERS: Mapping[str, Parameter] = {
    name: parameter for name, parameter in PARAMETERS.items() if name != "seed"
}


def _check_parameter(value: Any, info: ValidationInfo) -> Any:
    parameter = _PARAMETERS[str(info.field_name)]
    if parameter.max_items and parameter.type is str and isinstance(value, str):
        value = [value]
    if value is not None and (problem := parameter.problem(value)):
        raise ValueError(problem)
    return value


_fields: dict[str, Any] = {
    name: (Annotated[Any, AfterValidator(_check_parameter)], None) for name in _PARAMETERS
}
_SamplingSettings: Any = create_model("_SamplingSettings", __base__=AgentSettings, **_fields)


def _check_json(value: Any) -> Any:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"must be values that JSON can hold ({error})") from None
    return value


class RoutingSettings(StrictModel):
    """Which provider behind a gateway may answer: see arena_llm.types.ProviderRouting."""

    providers: list[Annotated[str, Field(min_length=1)]] = Field([])
    allow_fallbacks: bool | None = None
    precisions: list[Annotated[str, Field(min_length=1)]] = Field([])


def _check_template(name: str) -> str:
    load_template(name)
    return name


class PromptSettings(StrictModel):
    """How the prompts of a language model are written.

    template: the name of a template of the arena, or the path of a Jinja file that ends in .j2
    (see templates/standard.j2). actions: the order in which the legal actions are listed, which
    shows a model's preference for places in a list: listed (OpenSpiel's order), reversed, shuffled
    (by the turn's seed), or hidden: they are not listed at all. conversation: send the whole game
    as a conversation, with the model's own replies, in place of a single message for each turn.
    examples: turns of another game with a reply in the right format, before the first turn; the
    actions are drawn at random. persona: completes "You are ..." in the system message. board: how
    the position is written: standard, or another form of the game (see GameText.forms).
    """

    template: Annotated[str, AfterValidator(_check_template)] = STANDARD
    actions: Literal["listed", "reversed", "shuffled", "hidden"] = "listed"
    conversation: bool = False
    examples: Annotated[int, Field(ge=0, le=8)] = 0
    persona: str = ""
    # None: standard. A file without the key keeps its fingerprint.
    board: Annotated[str, Field(min_length=1)] | None = None


class LlmSettings(_SamplingSettings):  # type: ignore[misc]  # pydantic creates its fields above
    """A language model of any backend.

    model: full name with the backend's prefix. reply: see ReplyFormat. reader: lenient (the rules
    of extract.py) or strict (only the documented format). prompt: see PromptSettings. on_illegal:
    forfeit, random, retry N (then forfeit) or retry N then random. system: a system
    message before the prompt. send_seed: send the turn's seed with each call.
    timeout_seconds: for one call; None: the client's default. score_pick: with reply
    score, take the likeliest action, or draw one by probability. routing: the providers
    of a hosted model. template_arguments: of a local model's chat template.
    provider_options: sent to hosted models unchanged. store_tokens: store the tokens of each
    reply with what token_ids and top_logprobs request, by default their log-probabilities.
    fallback_models: models that answer if this one cannot, for a reason that waiting does not
    cure; without them no other model ever answers, even if the router has fallbacks. Each
    option of the client in PARAMETERS is a field too; None: not sent. With reply score the
    model generates nothing, so only temperature counts (default 1), and only for score_pick
    sample.
    """

    model: Annotated[str, Field(min_length=1)]
    reply: ReplyFormat = "json"
    on_illegal: Annotated[str, AfterValidator(_check_policy)] = "forfeit"
    system: str = ""
    send_seed: bool = False
    score_pick: Literal["argmax", "sample"] = "argmax"
    timeout_seconds: Annotated[float, Field(gt=0)] | None = None
    routing: RoutingSettings | None = None
    template_arguments: Annotated[dict[str, Any] | None, AfterValidator(_check_json)] = None
    provider_options: Annotated[dict[str, Any] | None, AfterValidator(_check_json)] = None
    # None: a file without one of these keys keeps its fingerprint.
    reader: Literal["lenient", "strict"] | None = None
    prompt: PromptSettings | None = None
    store_tokens: bool | None = None
    fallback_models: list[Annotated[str, Field(min_length=1)]] | None = None

    @property
    def policy(self) -> Policy:
        return Policy.parse(self.on_illegal)

    @property
    def names_provider(self) -> bool:
        """Whether `routing` or `provider_options` says which provider may answer."""
        provider = (self.provider_options or {}).get("provider")
        chosen = isinstance(provider, dict) and (provider.get("only") or provider.get("order"))
        return bool((self.routing and self.routing.providers) or chosen)

    @property
    def request_fields(self) -> frozenset[str]:
        """The paths of the request's fields that these settings set, such as "config.top_k"."""
        paths = {
            "template_arguments": "template_arguments_json",
            "provider_options": "provider_options_json",
            "fallback_models": "fallback_models.names",
            **{name: parameter.path for name, parameter in _PARAMETERS.items()},
        }
        values = self.sampling
        if self.reply == "score":
            values = {name: values[name] for name in ("template_arguments",) if name in values}
        routing = values.pop("routing", {})
        fields = {paths[name] for name, value in values.items() if _is_sent(value)}
        fields |= {f"routing.{name}" for name in routing}
        fields |= {"constraint.choices"} if self.reply == "choices" else set()
        return frozenset(fields | ({"config.seed"} if self._sends_seed else set()))

    @property
    def _sends_seed(self) -> bool:
        return self.send_seed and self.reply != "score"

    @property
    def sampling(self) -> dict[str, Any]:
        """The options that are set, as keyword arguments of `Client.generate`, in JSON's types."""
        names = (*_PARAMETERS, "template_arguments", "provider_options", "fallback_models")
        values = {name: getattr(self, name) for name in names}
        values["routing"] = self.routing and self.routing.model_dump(exclude_defaults=True)
        if self.store_tokens and not self.token_ids and self.top_logprobs is None:
            values["top_logprobs"] = 0  # of the tokens themselves, without alternatives
        return {name: value for name, value in values.items() if value is not None}


def _is_sent(value: Any) -> bool:
    """Whether the client sends an option: not if it is false, or an empty list or mapping."""
    return value is not False and value not in ([], {}, "")


class MctsSettings(AgentSettings):
    """OpenSpiel's Monte Carlo tree search with random rollouts.

    simulations: for each move. uct_c: weight of exploration.
    """

    simulations: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    uct_c: Annotated[float, Field(ge=0)] = 2.0


class MinimaxSettings(AgentSettings):
    """OpenSpiel's alpha-beta search.

    depth: plies to search. A position at that depth that does not end the game counts as
    a draw. Depth 9 covers all of tic-tac-toe; each further ply takes several times as long.
    """

    depth: Annotated[int, Field(ge=1, le=100)]


#: Wording of pydantic's errors, by type; the names in braces are in the error's context.
_WORDING = {
    "missing": "is missing",
    "invalid_key": "keys must be text",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "list_type": "must be a list",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be over {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
}

#: Aliases let a small YAML file contain endless lists: nested values are cut short.
_values = reprlib.Repr()
_values.maxlevel = 1


def explain_validation_error(problem: ErrorDetails, keys: Iterable[str]) -> str:
    """Explain one error of pydantic to the author of a file.

    keys: the valid keys at the place of the error.
    """
    if problem["type"] == "extra_forbidden":
        valid = sorted(keys)
        hint = did_you_mean(str(problem["loc"][-1]), valid, most=1)
        return f"unknown key{hint or '; the keys are ' + ', '.join(valid)}"
    reason = strip_label(problem["msg"])
    if wording := _WORDING.get(problem["type"]):
        limits = problem.get("ctx", {}).items()
        values = {
            name: f"{limit:g}" if isinstance(limit, float) else limit for name, limit in limits
        }
        reason = wording.format(**values)
    value = problem["input"]
    is_short = isinstance(value, bool | int | float | str | list) and value != []
    return f"{reason}, not {_values.repr(value)}" if is_short else reason
