"""What models on this machine honour: the paths of request fields, and capabilities."""

from __future__ import annotations

from collections.abc import Mapping

from arena_llm.types import Capability
from services.common.fields import ALWAYS_HONOURED
from services.common.local.sampling import SAMPLING_DEFAULTS

#: Fields that only a model with a chat template reads.
_CHAT_FIELDS = frozenset(
    (
        *("conversation", "conversation.continue_last_message", "template_arguments_json"),
        *("conversation.messages.parts.text", "conversation.messages.parts.cache"),
    )
)

#: Every field that some model on this machine honours.
LOCAL_FIELDS = (
    frozenset(
        (
            *(f"config.{name}" for name in SAMPLING_DEFAULTS),
            *("constraint.choices", "constraint.json_schema", "constraint.regex"),
            *("constraint.grammar", "constraint.json_object"),
            *("raw.text", "raw.token_ids", "raw.add_special_tokens"),
            *("returns.token_ids", "returns.top_logprobs", "returns.logprob_kind"),
            *("returns.logprob_token_ids", "returns.raw_text"),
            *_CHAT_FIELDS,
        )
    )
    - ALWAYS_HONOURED
)

#: Refused field -> what a caller can do instead.
REFUSED_LOCALLY: Mapping[str, str] = {
    "provider_options_json": "leave it out: the model runs here, without a provider",
    "routing": "leave it out: the model runs here, without a provider",
    "conversation.messages.parts.state": "leave it out: only providers make it",
    "conversation.messages.parts.refusal": "send it as a text",
    "conversation.messages.parts.image": "the models here read text only; describe the image",
}

#: What every local engine can do with every model, so that players can switch engines.
_CAPABILITIES = (
    Capability.SCORE,
    Capability.CHOICES,
    Capability.JSON_SCHEMA,
    Capability.REGEX,
    Capability.LOGPROBS,
    Capability.SEED,
    Capability.RAW,
    Capability.TOKEN_IDS,
    Capability.COUNT_TOKENS,
)


def list_fields(*, chat: bool) -> tuple[str, ...]:
    """The paths of the request fields that a model honours.

    chat: it has a chat template.
    """
    honoured = ALWAYS_HONOURED | LOCAL_FIELDS
    return tuple(sorted(honoured if chat else honoured - _CHAT_FIELDS))


def list_capabilities(*, chat: bool) -> tuple[Capability, ...]:
    """What a model can do, in broad terms."""
    return (*((Capability.CHAT,) if chat else ()), *_CAPABILITIES)
