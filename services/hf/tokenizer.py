"""A tokenizer and its chat template from their files, without transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer

#: The classes of tokenizer_config.json for which transformers, too, uses tokenizer.json unchanged.
_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_NAMES = tuple(f"{role}_token" for role in _ROLES)
#: The other settings that change nothing here. With any further one, transformers is asked.
_HARMLESS = {"tokenizer_class", "chat_template", "model_max_length", "backend", "is_local"}
_TEMPLATE = "chat_template.jinja"
#: Other files with settings of tokenizers.
_OTHER = ("special_tokens_map.json", "added_tokens.json", "additional_chat_templates")

#: Stands at the end of a message that the model continues. Its space shows whether the template
#: strips messages.
_END = "\ue000end of the last message\ue000 "


@dataclass(frozen=True, slots=True)
class Encoded:
    """The tokens of a text."""

    input_ids: list[int]


class FileTokenizer:
    """What the service uses of a tokenizer of transformers, with the same names.

    backend: reads tokenizer.json. named: the roles (such as eos_token) and their tokens.
    """

    def __init__(
        self, backend: Tokenizer, named: Mapping[str, str], chat_template: str | None
    ) -> None:
        backend.no_truncation()
        backend.no_padding()
        self.backend_tokenizer = backend
        self.chat_template = chat_template
        self._named = dict(named)
        self.added_tokens_decoder: dict[int, AddedToken] = backend.get_added_tokens_decoder()
        self.all_special_tokens = list(dict.fromkeys(self._named.values()))
        self.all_special_ids = [*map(backend.token_to_id, self.all_special_tokens)]
        eos = self._named.get("eos_token")
        self.eos_token_id: int | None = None if eos is None else backend.token_to_id(eos)

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> Encoded:
        ids = self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return Encoded(list(ids))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of the tokens, special ones among them."""
        text: str = self.backend_tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text

    def get_vocab(self) -> dict[str, int]:
        """Every token and its id."""
        vocabulary: dict[str, int] = self.backend_tokenizer.get_vocab()
        return vocabulary

    def get_added_vocab(self) -> dict[str, int]:
        """The tokens that are no part of the tokenizer's model."""
        return {token.content: index for index, token in self.added_tokens_decoder.items()}

    def apply_chat_template(
        self,
        conversation: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = False,
        **arguments: Any,
    ) -> str:
        """The conversation as text. tokenize: must be False.

        Raises what the template raises, TemplateError for one that drops the message to continue.
        """
        source = self.chat_template if chat_template is None else chat_template
        if tokenize or source is None:
            raise ValueError("only the text of a conversation, and only with a chat template")
        messages: list[Any] = deepcopy(list(conversation))
        if continue_final_message:
            _mark_end(messages[-1])
        text = _compile(source).render(
            **{
                **self._named,
                "messages": messages,
                "tools": tools,
                "documents": None,
                "add_generation_prompt": add_generation_prompt,
                **arguments,
            }
        )
        return _cut(text) if continue_final_message else text


def read_tokenizer(folder: Path) -> FileTokenizer | None:
    """The tokenizer of a folder; None if transformers may read more from its files than this does.

    Raises ValueError and OSError for damaged files.
    """
    if not (folder / "tokenizer.json").is_file() or any((folder / n).exists() for n in _OTHER):
        return None
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    if settings.get("tokenizer_class") not in _CLASSES or settings.keys() - {*_NAMES, *_HARMLESS}:
        return None
    template = settings.get("chat_template")
    if (folder / _TEMPLATE).exists():
        template = (folder / _TEMPLATE).read_text(encoding="utf-8")
    named = {name: settings[name] for name in _NAMES if settings.get(name) is not None}
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    added = backend.get_added_tokens_decoder().values()
    special = {token.content for token in added if token.special}
    if not all(isinstance(token, str) and token in special for token in named.values()):
        return None
    return FileTokenizer(backend, named, template) if isinstance(template, str | None) else None


def _mark_end(message: dict[str, Any]) -> None:
    """Put a mark behind the last text of a message."""
    if isinstance(message["content"], str):
        message["content"] += _END
        return
    last = [part for part in message["content"] if part.get("type") == "text"][-1]
    last["text"] += _END


def _cut(text: str) -> str:
    """The text up to the mark: without what a template writes after a message."""
    before, mark, after = text.rpartition(_END.strip())
    if not mark:
        raise TemplateError("it does not show the end of the message to continue")
    return before if after.startswith(" ") else before.rstrip()


class _Generation(Extension):
    """{% generation %} marks the model's own text for training. Here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 - as the base class declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


@lru_cache(64)
def _compile(source: str) -> Template:
    """A template in the environment for which chat templates are written."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _format_now
    return environment.from_string(source)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _format_now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Unlike jinja2's own filter, it leaves <, > and & unchanged."""
    dump: Callable[..., str] = json.dumps
    return dump(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
