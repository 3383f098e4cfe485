"""The settings of each type of player, as experiments' files have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from arena.agents.prompt import ReplyFormat
from arena.experiment.policy import Policy
from arena.problems import told


class _Settings(BaseModel):
    """Unknown keys are errors, a value is of its type already, and does not change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )


def _on_illegal(text: str) -> str:
    Policy.parse(text)
    return text


class LlmConfig(_Settings):
    """A language model of any backend.

    model: full prefixed name. reply: see ReplyFormat. on_illegal: forfeit, random,
    retry N (then forfeit) or retry N then random. system: a system message ahead of the
    prompt. send_seed: whether the turn's seed goes out with the call. timeout_seconds: of
    one call; None: the client's. score_pick: with reply score, the likeliest action or one
    drawn by probability. The others are the client's sampling parameters; None: not sent.
    With reply score nothing is generated: of them only temperature counts (1 unless
    given), and for sample alone.
    """

    type: Literal["llm"]
    model: Annotated[str, Field(min_length=1)]
    reply: ReplyFormat = "json"
    on_illegal: Annotated[str, AfterValidator(_on_illegal)] = "forfeit"
    system: str = ""
    send_seed: bool = False
    score_pick: Literal["argmax", "sample"] = "argmax"
    timeout_seconds: Annotated[float, Field(gt=0)] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    max_tokens: PositiveInt | None = None
    stop: str | list[str] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    provider_options: dict[str, Any] | None = None

    #: The names of the client's sampling parameters.
    SAMPLING: ClassVar = (
        "temperature", "top_p", "top_k", "max_tokens", "stop", "presence_penalty",
        "frequency_penalty", "provider_options",
    )  # fmt: skip


class RandomConfig(_Settings):
    """Plays any legal action, each as likely as the others."""

    type: Literal["random"]


class HumanConfig(_Settings):
    """Somebody at the terminal."""

    type: Literal["human"]


class MctsConfig(_Settings):
    """OpenSpiel's Monte Carlo tree search with random rollouts.

    simulations: for each move. uct_c: weight of exploration.
    """

    type: Literal["mcts"]
    simulations: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    uct_c: Annotated[float, Field(ge=0)] = 2.0


class MinimaxConfig(_Settings):
    """OpenSpiel's alpha-beta search.

    depth: plies that are searched; a position there that is no end counts as a draw. 9 is
    the whole of tic-tac-toe; each ply more takes several times as long.
    """

    type: Literal["minimax"]
    depth: Annotated[int, Field(ge=1, le=100)]


AgentConfig = LlmConfig | RandomConfig | HumanConfig | MctsConfig | MinimaxConfig

_BY_TYPE: Mapping[str, type[AgentConfig]] = {
    "llm": LlmConfig,
    "random": RandomConfig,
    "human": HumanConfig,
    "mcts": MctsConfig,
    "minimax": MinimaxConfig,
}


def agent_config(settings: Mapping[str, Any]) -> AgentConfig:
    """Check a player's settings. Raises ValueError: a line "key: reason" for each problem."""
    kind = settings.get("type")
    if not isinstance(kind, str) or kind not in _BY_TYPE:
        raise ValueError(f"type: must be one of {', '.join(_BY_TYPE)}, not {kind!r}")
    try:
        return _BY_TYPE[kind].model_validate(settings)
    except ValidationError as error:
        known = _BY_TYPE[kind].model_fields
        lines = (f"{'.'.join(map(str, e['loc']))}: {told(e, known)}" for e in error.errors())
        raise ValueError("\n".join(lines)) from None
