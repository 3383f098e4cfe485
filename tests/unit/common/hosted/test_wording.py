"""Errors that providers name only in words, as public reports have them."""

from __future__ import annotations

import pytest

from services.common import errors
from services.common.hosted.wording import find_kind

CONTEXT = (
    (
        "This model's maximum context length is 8192 tokens. However, your messages "
        "resulted in 10000 tokens. Please reduce the length of the messages."
    ),
    (
        "Input tokens exceed the configured limit of 272000 tokens. Your messages "
        "resulted in 300000 tokens."
    ),
    "Your input exceeds the context window of this model. Please adjust your input and try again.",
    (
        "Invalid 'messages[1].content': string too long. Expected a string with maximum "
        "length 10485760, but got a string with length 20000000 instead."
    ),
    "prompt is too long: 210000 tokens > 200000 maximum",
    (
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, "
        "decrease input length or `max_tokens` and try again"
    ),
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "The input token count is 40000 but model only supports up to 32768.",
    (
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 "
        "maximum context length"
    ),
    (
        "too many tokens: total number of tokens in the prompt cannot exceed 4081 - "
        "received 8000. Try using a shorter prompt, or enable prompt truncating."
    ),
    (
        "size limit exceeded by 2134 tokens. Try using shorter or fewer inputs, or "
        "enabling prompt truncating."
    ),
    (
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. "
        "Given: 4000 `inputs` tokens and 500 `max_new_tokens`"
    ),
    "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000",
    "The prompt is too long: 10000, model maximum context length: 8191",
    (
        "Please reduce the length of the messages or completion. Current length is 9000 "
        "while limit is 8192"
    ),
    "Input is too long for requested model.",
    (
        "Input Tokens Exceeded: Number of input tokens exceeds maximum length. Please "
        "update the input to try again."
    ),
    (
        "The decoder prompt (length 5000) is longer than the maximum model length of "
        "4096. Make sure that `max_model_len` is no smaller than the number of text "
        "tokens."
    ),
    (
        "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's "
        "maximum context length is 4096 tokens and your request has 100 input tokens "
        "(5000 > 4096 - 100)."
    ),
    "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
    (
        "Requested token count exceeds the model's maximum context length of 4096 "
        "tokens. You requested a total of 5000 tokens."
    ),
    (
        "the request exceeds the available context size. try increasing the context size "
        "or enable context shift"
    ),
    "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
    "Context size has been exceeded.",
    "the input length exceeds the context length",
    (
        "Trying to keep the first 4500 tokens when context the overflows. However, the "
        "model is loaded with context length of only 4096 tokens, which is not enough."
    ),
    (
        "Reached context length of 4096 tokens with this model, but this model does not "
        "currently support mid-generation context overflow."
    ),
    "This model's maximum prompt length is 131072 but the request contains 200000 tokens.",
    "the number of input tokens 5000 cannot exceed the total tokens limit 4096 for this model",
    "Invalid request: Your request exceeded model token limit: 8192",
    "Input token length too long",
    "Prompt exceeds max length",
    "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]",
    "invalid params, context window exceeds limit (2013)",
    (
        "This endpoint's maximum context length is 32768 tokens. However, you requested "
        "about 40000 tokens (39000 of text input, 1000 in the output)."
    ),
    "Request body too large for gpt-4o model. Max size: 8000 tokens.",
    "prompt token count of 130000 exceeds the limit of 128000",
    "Prompt length exceeds maximum input length",
    "The total number of tokens (5000) exceeds the model's context window",
    "输入内容长度超过模型最大限制",
    (
        "litellm.ContextWindowExceededError: OpenAIException - This model's maximum "
        "context length is 4096 tokens"
    ),
    "Your prompt is too large for this model",
    "Conversation is too long, please start a new one",
    "The requested tokens (6000) exceed context window of 4096",
    "The sum of prompt length (5000.0), query length (0) should not exceed max_num_tokens (4096)",
    "This request requires more tokens than the context window allows",
)

#: Other errors, some of which have the same words.
OTHER = (
    (
        "Invalid 'messages[0].name': string too long. Expected a string with maximum "
        "length 64, but got a string with length 80 instead."
    ),
    (
        "max_tokens is too large: 5000. This model supports at most 4096 completion "
        "tokens, whereas you provided 5000."
    ),
    (
        "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens "
        "for claude-3-5-sonnet"
    ),
    (
        "`max_tokens` must be less than or equal to `8192`, the maximum value for "
        "`max_tokens` is less than the `context_window` for this model"
    ),
    (
        "The maximum tokens you requested exceeds the model limit of 4096. Try again "
        "with a maximum tokens value that is lower than 4096."
    ),
    "`max_tokens` must be greater than `thinking.budget_tokens`",
    (
        "Request too large for model `llama` on tokens per minute (TPM): Limit 6000, "
        "Requested 7000, please reduce your message size and try again."
    ),
    (
        "Unsupported value: 'temperature' does not support 0.2 with this model. Only the "
        "default (1) value is supported."
    ),
    "messages: at least one message is required",
    "Too many stop sequences: the maximum is 4",
    "Invalid schema for response_format 'reply': schema is too large",
    "A request exceeds the maximum size of 32 MB",
    "image exceeds 5 MB maximum: 6000000 bytes > 5242880 bytes",
    "The number of images in the prompt exceeds the maximum of 10",
    "invalid token: the authorization token is too long",
    "prompt_cache_key: string too long, at most 64 characters",
    "Unknown parameter: 'context_window'",
    "max_output_tokens must be in the range [1, 8192]",
    "tool name is longer than the maximum length of 64",
    "total tool schema too large",
    "Provider returned error",
    "a planted failure",
    "The model `gpt-9` does not exist or you do not have access to it.",
)

CREDITS = (
    (429, "You exceeded your current quota, please check your plan and billing details."),
    (
        400,
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing",
    ),
    (403, "Your team has either used all available credits or reached its monthly spending limit."),
    (429, "Insufficient balance or no resource package. Please recharge."),
    (429, "余额不足或无可用资源包,请充值。"),
    (412, "Account is suspended due to insufficient credits"),
    (400, "Billing hard limit has been reached"),
)
#: Limits that a wait lifts.
LIMITS = (
    "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, "
    "Used 29000, Requested 2000. Please try again in 2s.",
    "You exceeded your current quota, please check your plan and billing details. * Quota exceeded "
    "for metric: generate_content_free_tier_requests, limit: 15. Please retry in 30.1s.",
    "Too many requests",
)
TOO_LARGE = (
    "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, "
    "Requested 40000. The input or output tokens must be reduced in order to run successfully."
)
KEYS = (
    "API key not valid. Please pass a valid API key.",
    "Incorrect API key provided: xa***yz.",
    "Invalid API key",
)


@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_a_context_that_is_too_long(status: int) -> None:
    missed = [words for words in CONTEXT if find_kind(words, status) is not errors.ContextTooLong]
    assert missed == []


def test_other_errors_are_left_to_their_status() -> None:
    assert {words: kind for words in OTHER if (kind := find_kind(words, 400))} == {}
    assert {words: kind for words in (*CONTEXT, *OTHER) if (kind := find_kind(words, 401))} == {}


def test_missing_credit() -> None:
    for status, words in CREDITS:
        assert find_kind(words, status) is errors.InsufficientCredits, words


def test_a_limit_that_a_wait_lifts() -> None:
    assert [find_kind(words, 429) for words in LIMITS] == [None] * len(LIMITS)
    assert find_kind(CREDITS[0][1], 429, waits=True) is None, "it says how long to wait"


def test_a_call_over_the_tokens_of_a_minute_never_fits() -> None:
    assert find_kind(TOO_LARGE, 429) is errors.InvalidRequest


def test_a_wrong_key() -> None:
    for words in KEYS:
        assert find_kind(words, 400) is errors.ApiKeyRejected, words
