"""Prompts become tokens: chat templates, raw text, and input that is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, normalizers, processors
from transformers import AutoTokenizer

import services.common.local.template
from arena_llm.types import (
    Choices,
    Continuation,
    ContinuationBoundary,
    Conversation,
    CountRequest,
    Input,
    Message,
    RawPrompt,
    Refusal,
    ScoringRequest,
    Text,
    Tool,
)
from services.common.errors import (
    BackendError,
    ContextTooLong,
    InvalidRequest,
    ModelMisconfigured,
    Unsupported,
)
from services.common.local.probe import make_test_prompt
from services.common.local.request import PromptReader
from services.common.local.template import ChatTemplate
from tests.support.replies import list_messages
from tests.support.tiny_models import CHATML, make_checkpoint

CONTEXT = 512
TALK = Conversation((Message("system", "Play."), Message("user", "0 or 8?")))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = make_checkpoint(tmp_path_factory.mktemp("model"), "llama")
    return AutoTokenizer.from_pretrained(folder)


def reader(tokenizer: Any, template: str | None = CHATML, tokens: int = 400) -> PromptReader:
    return PromptReader("hf_tiny", tokenizer, template, CONTEXT, tokens)


def test_a_chat_model_sees_its_template(tokenizer: Any) -> None:
    def shown(test_input: Input) -> str:
        return str(tokenizer.decode(reader(tokenizer).read(test_input)))

    assert shown("0 or 8?") == "<|im_start|>user\n0 or 8?<|im_end|>\n<|im_start|>assistant\n"
    assert shown(TALK).startswith("<|im_start|>system\nPlay.<|im_end|>\n<|im_start|>user\n0 or 8?")


def test_the_words_of_every_reply_can_be_read(tokenizer: Any) -> None:
    """Also those of a refusal, and an empty reply, which is an empty turn."""
    prompts = PromptReader("hf_tiny", tokenizer, CHATML, 100_000, 400)
    ask = Message("user", "0 or 8?")
    for message in list_messages(60):
        words = Message("assistant", [p for p in message.parts if isinstance(p, Text | Refusal)])
        text = tokenizer.decode(prompts.read(Conversation((ask, words, ask))))
        said = message.text + message.refusal
        assert f"<|im_start|>assistant\n{said}<|im_end|>\n<|im_start|>user" in text


def test_a_base_model_sees_the_text_itself(tokenizer: Any) -> None:
    assert tokenizer.decode(reader(tokenizer, None).read("0 or 8?")) == "0 or 8?"


#: Input, template, error, its field, its message.
REFUSED: list[tuple[Input, str | None, type[BackendError], str, str]] = [
    (TALK, None, Unsupported, "conversation", "base model"),
    (TALK, "{{ raise_exception('system first') }}", InvalidRequest, "conversation", "system first"),
    ("x", "{{ '' }}", InvalidRequest, "prompt", "renders nothing"),
    ("x" * 5_000_000, CHATML, ContextTooLong, "prompt", "at least"),
    ("日" * 1_700_000, None, ContextTooLong, "prompt", "at least"),
    (
        Conversation((Message("user", "x" * 5_000_000),)),
        CHATML,
        ContextTooLong,
        "conversation",
        "at least",
    ),
]


@pytest.mark.timeout(20)  # 5 MB are not tokenized
@pytest.mark.parametrize(
    ("test_input", "template", "error", "field", "why"), REFUSED, ids=lambda value: repr(value)[:30]
)
def test_unreadable_input_is_refused(
    tokenizer: Any,
    test_input: Input,
    template: str | None,
    error: type[BackendError],
    field: str,
    why: str,
) -> None:
    with pytest.raises(error, match=why) as caught:
        reader(tokenizer, template).read(test_input)
    assert caught.value.field == field


def test_a_token_without_an_embedding_never_reaches_the_engine(tokenizer: Any) -> None:
    """The chat template of another model may write one."""
    small = reader(tokenizer, tokens=tokenizer.get_vocab()["<|im_start|>"])
    with pytest.raises(InvalidRequest, match="no embedding") as caught:
        small.read("0 or 8?")
    assert caught.value.field == "prompt"


@pytest.mark.parametrize(
    ("prompt", "completion", "field"),
    [
        (CONTEXT, 1, "prompt"),
        (CONTEXT - 4, 5, "config.max_tokens"),
        (1, 2**31 - 1, "config.max_tokens"),
    ],
)
def test_input_over_the_context_length_is_refused(
    tokenizer: Any, prompt: int, completion: int, field: str
) -> None:
    with pytest.raises(ContextTooLong) as caught:
        reader(tokenizer).check_room("x", prompt, completion, "config.max_tokens")
    assert caught.value.field == field
    assert caught.value.metadata["context_length"] == str(CONTEXT)


def test_an_encoder_decoder_model_has_a_context_for_each(tokenizer: Any) -> None:
    both = PromptReader("hf_tiny", tokenizer, None, CONTEXT, 400, encoder_decoder=True)
    both.check_room("x", CONTEXT, CONTEXT, "config.max_tokens")
    with pytest.raises(ContextTooLong):
        both.check_room("x", 1, CONTEXT + 1, "config.max_tokens")


def test_a_token_that_can_only_be_read_is_refused_as_a_continuation(tokenizer: Any) -> None:
    token = tokenizer.get_vocab()["<|im_start|>"]
    narrow = PromptReader("hf_tiny", tokenizer, None, CONTEXT, 400, token)
    assert narrow.read("<|im_start|>") == [token]
    with pytest.raises(InvalidRequest, match="no embedding") as caught:
        narrow.read_scoring(ScoringRequest("hf_tiny", "x", (Continuation("<|im_start|>"),)))
    assert caught.value.field == "continuations[0]"


def test_input_that_fits_exactly_is_accepted(tokenizer: Any) -> None:
    reader(tokenizer).check_room("x", CONTEXT - 4, 4, "config.max_tokens")


@pytest.mark.parametrize(
    ("stop", "most", "field"), [(("2",), None, "config.stop"), ((), 2, "config.max_tokens")]
)
def test_parameters_that_would_cut_a_choice_are_refused(
    tokenizer: Any, stop: tuple[str, ...], most: int | None, field: str
) -> None:
    with pytest.raises(InvalidRequest, match="123") as caught:
        reader(tokenizer).check_choices(Choices(("1", "123")), stop, most)
    assert caught.value.field == field


def test_a_test_prompt(tokenizer: Any) -> None:
    shown = tokenizer.decode(make_test_prompt(reader(tokenizer)))
    assert shown == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(make_test_prompt(reader(tokenizer, None))) == "Hello"


def test_a_test_prompt_uses_the_vocabulary_of_the_model(tokenizer: Any) -> None:
    letters = tokenizer("Hello").input_ids
    few = reader(tokenizer, None, tokens=min(letters))
    assert tokenizer.decode(make_test_prompt(few)).isprintable()


def test_a_tokenizer_that_reads_nothing_is_refused(tokenizer: Any) -> None:
    silent = copy.deepcopy(tokenizer)
    silent.backend_tokenizer.normalizer = normalizers.Replace(Regex("(?m).*"), "")
    with pytest.raises(ModelMisconfigured, match=r"hf_tiny cannot read a test prompt: .* no token"):
        make_test_prompt(reader(silent, None))
    with pytest.raises(ModelMisconfigured, match="no embedding"):
        make_test_prompt(reader(tokenizer, None, tokens=1))


def test_a_template_may_require_a_system_message(tokenizer: Any) -> None:
    picky = "{% if messages[0].role != 'system' %}{{ raise_exception('no') }}{% endif %}x"
    assert tokenizer.decode(make_test_prompt(reader(tokenizer, picky))) == "x"


#: Templates that fail on every conversation -> the error.
BROKEN = {
    "{{ nothing.here }}": "UndefinedError: 'nothing' is undefined",
    "{{ 1 + messages[0].content }}": r"TypeError: unsupported operand type",
    "{{ {}['x'].y }}": "UndefinedError",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "RecursionError",
    "{{ ''.__class__.__mro__ }}": "SecurityError",
    "{{ range(10 ** 9) }}": "OverflowError",
    "{{ raise_exception('never') }}": "refuses this conversation: never",
    "{{ '' }}": "renders nothing",
    "": "renders nothing",
    "<|im_start|>": "no embedding",
    "x" * 400_000: "at least",
}


@pytest.mark.parametrize("template", BROKEN, ids=lambda template: template[:40])
def test_a_template_that_fails_on_every_conversation(tokenizer: Any, template: str) -> None:
    vocabulary = tokenizer.get_vocab()["<|im_start|>"]
    with pytest.raises(ModelMisconfigured, match=BROKEN[template]) as caught:
        make_test_prompt(reader(tokenizer, template, vocabulary))
    assert caught.value.message.startswith("hf_tiny cannot read a test conversation")
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% if %}", "Expected an expression"),
        ("{{ messages[0].content | no_filter }}", "No filter named 'no_filter'"),
        ("{% if tools %}{{ tools | no_filter }}{% endif %}{{ messages[0].content }}", "no_filter"),
    ],
)
def test_a_template_that_cannot_be_compiled_is_not_the_callers_fault(
    tokenizer: Any, template: str, why: str
) -> None:
    """Also if only a part of it is wrong, which the test conversation does not use."""
    tools = [Tool("look")] if "tools" in template else []
    with pytest.raises(ModelMisconfigured, match=why) as caught:
        reader(tokenizer, template).read("a", tools=tools)
    assert caught.value.message.startswith("the chat template of hf_tiny cannot be compiled")


SECRET_TALK = Conversation((Message("system", "SECRET-1"), Message("user", "SECRET-2")))

#: Template -> the error for SECRET_TALK, in which a template's own error must not repeat it.
FAILING = {
    "{{ raise_exception('roles must alternate') }}": "refuses this conversation: roles must alt",
    "{{ raise_exception('a' * 5000) }}": "refuses this conversation: aaa",
    "{{ raise_exception('\x1b[31m red') }}": r"refuses this conversation: \\x1b\[31m red",
    "{{ messages[2].content }}": "UndefinedError: list object has no element 2",
    "{{ messages[2] + 1 }}": "UndefinedError",
    "{{ {}[messages[0].content] + 1 }}": "UndefinedError",
    "{{ 1 + messages[0].content }}": "TypeError$",
    "{{ messages[0].content.index('?') }}": "ValueError$",
    "{{ '{x}'.format(messages[0].content) }}": "KeyError$",
    "{{ '\\ud83d' }}{{ messages[0].content }}": "UnicodeEncodeError$",
    "{{ 1 // 0 }}": "ZeroDivisionError$",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "RecursionError$",
    "{% for m in messages if m.role == 'tool' %}x{% endfor %}": "renders nothing",
}


@pytest.mark.parametrize("source", FAILING)
@pytest.mark.parametrize("field", ["conversation", "prompt"])
def test_a_conversation_on_which_the_template_fails(
    tokenizer: Any, source: str, field: str
) -> None:
    with pytest.raises(InvalidRequest, match=FAILING[source]) as caught:
        ChatTemplate("hf_tiny", tokenizer, source).render(SECRET_TALK, field)
    assert caught.value.field == field
    assert "hf_tiny" in caught.value.message
    assert len(caught.value.message) < 500
    assert caught.value.message.isprintable()
    if "undefined" not in caught.value.message.lower():
        assert "SECRET" not in caught.value.message


def test_a_template_that_takes_too_long(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services.common.local.template, "_RENDER_SECONDS", 0.1)
    many = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="it takes longer than 0"):
            ChatTemplate("hf_tiny", tokenizer, many).render(SECRET_TALK, "conversation")
    plain = ChatTemplate("hf_tiny", tokenizer, "{{ messages[0].role }}")
    assert plain.render(SECRET_TALK, "conversation") == "system"


def test_a_tokenizer_that_does_not_render_text() -> None:
    class Odd:
        def apply_chat_template(self, *_: Any, **__: Any) -> list[int]:
            return [1]

    with pytest.raises(InvalidRequest, match="renders list, not text"):
        ChatTemplate("hf_tiny", Odd()).render(SECRET_TALK, "conversation")


def encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def test_a_raw_prompt_has_no_template(tokenizer: Any) -> None:
    chat = reader(tokenizer)
    assert chat.read(RawPrompt("0 or 8?")) == encode(tokenizer, "0 or 8?")
    assert chat.read(RawPrompt(token_ids=(5, 2, 7))) == [5, 2, 7]


def test_a_raw_prompt_says_whether_special_tokens_are_added(tokenizer: Any) -> None:
    adding = copy.deepcopy(tokenizer)
    adding.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", 0)]
    )
    plain = encode(tokenizer, "7")
    for special, expected in ((None, [0, *plain]), (True, [0, *plain]), (False, plain)):
        raw = RawPrompt("7", add_special_tokens=special)
        assert reader(adding).read(raw) == expected


@pytest.mark.parametrize(
    ("raw", "error", "field"),
    [
        (RawPrompt(token_ids=(400,)), InvalidRequest, "raw.token_ids"),
        (RawPrompt("x" * 5_000_000), ContextTooLong, "raw.text"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_an_unreadable_raw_prompt_is_refused(
    tokenizer: Any, raw: RawPrompt, error: type[BackendError], field: str
) -> None:
    with pytest.raises(error) as caught:
        reader(tokenizer).read(raw)
    assert caught.value.field == field


def test_the_last_message_is_continued(tokenizer: Any) -> None:
    messages = (Message("user", "0 or 8?"), Message("assistant", "I take "))
    tokens = reader(tokenizer).read(Conversation(messages, continue_last_message=True))
    assert tokenizer.decode(tokens) == (
        "<|im_start|>user\n0 or 8?<|im_end|>\n<|im_start|>assistant\nI take "
    )


THINKING = "{{ messages[0].content }}{% if enable_thinking %} think{% endif %}"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [({}, "7"), ({"enable_thinking": True}, "7 think"), ({"enable_thinking": False}, "7")],
)
def test_arguments_of_the_template(tokenizer: Any, arguments: dict[str, Any], text: str) -> None:
    assert tokenizer.decode(reader(tokenizer, THINKING).read("7", arguments)) == text


@pytest.mark.parametrize(
    ("arguments", "error", "why"),
    [
        ({"messages": []}, InvalidRequest, "must not set messages"),
        ({"tokenize": True}, InvalidRequest, "must not set tokenize"),
        ({"enable_dreaming": True}, Unsupported, "does not read enable_dreaming"),
    ],
)
def test_arguments_that_the_template_cannot_get(
    tokenizer: Any, arguments: dict[str, Any], error: type[BackendError], why: str
) -> None:
    with pytest.raises(error, match=why) as caught:
        reader(tokenizer, THINKING).read("7", arguments)
    assert caught.value.field == "template_arguments_json"


@pytest.mark.parametrize("prompt_input", ["7", RawPrompt("7"), RawPrompt(token_ids=(5,))], ids=str)
def test_arguments_without_a_template_are_refused(tokenizer: Any, prompt_input: Input) -> None:
    template = None if prompt_input == "7" else CHATML
    with pytest.raises(Unsupported, match="needs a chat template") as caught:
        reader(tokenizer, template).read(prompt_input, {"x": 1})
    assert caught.value.field == "template_arguments_json"


def scoring(prompt_input: Input, *texts: str, joined: bool = True) -> ScoringRequest:
    boundary = ContinuationBoundary.JOINED if joined else None
    return ScoringRequest(
        "hf_tiny", prompt_input, tuple(map(Continuation, texts)), boundary=boundary
    )


def test_a_joined_continuation_has_the_tokens_after_the_prompt(tokenizer: Any) -> None:
    """The tokenizer merges "mo" and "ve", which it does not when each is read alone."""
    base = reader(tokenizer, None)
    prompt, [joined] = base.read_scoring(scoring("a mo", "ve 7"))
    whole = encode(tokenizer, "a move 7")
    assert joined == whole[len(prompt) :]
    _, [separate] = base.read_scoring(scoring("a mo", "ve 7", joined=False))
    assert separate == encode(tokenizer, "ve 7")
    assert separate != joined


def test_a_joined_continuation_without_a_token_of_its_own(tokenizer: Any) -> None:
    base = reader(tokenizer, None)
    assert len(encode(tokenizer, "mov")) >= len(encode(tokenizer, "move")), "it merges"
    with pytest.raises(InvalidRequest, match="adds no token") as caught:
        base.read_scoring(scoring("mov", "7", "e"))
    assert caught.value.field == "continuations[1]"


def test_a_joined_continuation_after_a_template(tokenizer: Any) -> None:
    prompt, [joined] = reader(tokenizer).read_scoring(scoring("0 or 8?", "8"))
    assert tokenizer.decode([*prompt, *joined]).endswith("<|im_start|>assistant\n8")


@pytest.mark.parametrize("joined", [True, False])
def test_token_ids_of_a_continuation_are_used_unchanged(tokenizer: Any, joined: bool) -> None:
    boundary = ContinuationBoundary.JOINED if joined else None
    texts = (Continuation(token_ids=(5, 6)),)
    request = ScoringRequest("hf_tiny", "7", texts, boundary=boundary)
    assert reader(tokenizer).read_scoring(request)[1] == [[5, 6]]


def test_a_prompt_of_token_ids_cannot_be_joined(tokenizer: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        reader(tokenizer).read_scoring(scoring(RawPrompt(token_ids=(5,)), "a"))
    assert caught.value.field == "boundary"


def test_an_encoder_does_not_join(tokenizer: Any) -> None:
    both = PromptReader("hf_tiny", tokenizer, None, CONTEXT, 400, encoder_decoder=True)
    with pytest.raises(Unsupported) as caught:
        both.read_scoring(scoring("7", "a"))
    assert caught.value.field == "boundary"


def test_a_count_may_be_longer_than_the_context(tokenizer: Any) -> None:
    tokens = reader(tokenizer).read_count(CountRequest("hf_tiny", "7" * CONTEXT))
    assert len(tokens) > CONTEXT
