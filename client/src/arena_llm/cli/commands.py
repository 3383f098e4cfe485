"""The commands of `arena-llm`.

COMMANDS lists them. A command adds its arguments to a parser, and its function prints to an
Output and returns the exit code: 0 if it succeeded, 1 if not.
"""

from __future__ import annotations

import argparse
import errno
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from arena_llm.cli import tokens, top
from arena_llm.cli.output import Output, as_plain, error_fields, format_credits, format_price
from arena_llm.client import Client
from arena_llm.command_line import PRICE_HEADER
from arena_llm.errors import ArenaError, InvalidArgumentError, NotFoundError
from arena_llm.types import (
    PARAMETERS,
    Availability,
    CacheUse,
    Completion,
    GenerateOptions,
    Message,
    Parameter,
    ReplicaState,
)

#: The options of `generate` that take text: metavar and help.
_TEXT_OPTIONS = {
    "json_schema": ("JSON", "the text is JSON that this schema accepts"),
    "regex": ("PATTERN", "the whole text matches this pattern"),
    "session": ("NAME", "the game; the calls of a session share a prefix cache"),
}
#: The same for those that take JSON objects.
_JSON_OPTIONS = {
    "template_arguments": "arguments of the chat template",
    "provider_options": "options for the provider",
}
#: Those that _add_generate defines one by one.
_OTHER_OPTIONS = ("choices", "json_object", "fallback_models", "cache_use")
_METAVARS = {int: "N", float: "X", str: "TEXT"}


def list_models(client: Client, args: argparse.Namespace, output: Output) -> int:
    """Print the models, and on stderr the backends whose models are missing."""
    models = client.list_models()
    if output.json:
        output.document(models)
        return 0
    rows = [
        (
            model.name,
            str(model.context_length or "-"),
            format_price(model.price),
            " ".join(model.capabilities) or "-",
        )
        for model in models
    ]
    output.table(("MODEL", "CONTEXT", PRICE_HEADER, "CAN"), rows)
    for backend in models.unreachable:
        output.warn(
            f"{backend.backend} ({', '.join(backend.addresses)}) not listed: {backend.detail}"
        )
    return 0


def check(client: Client, args: argparse.Namespace, output: Output) -> int:
    """Print the state of each model and how to fix it."""
    states = {name: _check_model(client, name) for name in args.models}
    if output.json:
        output.document([{"name": name, **_state_fields(s)} for name, s in states.items()])
    else:
        output.table(
            ("MODEL", "USABLE", "STATE", "CREDITS", "DETAIL"),
            [(name, *_state_cells(state)) for name, state in states.items()],
        )
    return 0 if all(isinstance(s, Availability) and s.available for s in states.values()) else 1


def _check_model(client: Client, model: str) -> Availability | ArenaError:
    try:
        return client.is_available(model)
    except NotFoundError as error:
        # A wrong name must not hide the states of the other models.
        return error


def _state_fields(state: Availability | ArenaError) -> dict[str, Any]:
    if isinstance(state, ArenaError):
        return {"available": False, "error": error_fields(state)}
    fields: dict[str, Any] = as_plain(state)
    return fields


def _state_cells(state: Availability | ArenaError) -> tuple[str, str, str, str]:
    if isinstance(state, ArenaError):
        return "no", state.reason or state.code, "-", state.message
    usable = "yes" if state.available else "no"
    detail = "; ".join(filter(None, (state.detail, *state.warnings))) or "-"
    return usable, state.state, format_credits(state.credits), detail


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", metavar="MODEL", help="full name, with its prefix")


def generate(client: Client, args: argparse.Namespace, output: Output) -> int:
    """Print the text; as JSON, the whole completion."""
    prompt = _read_prompt(args.prompt)
    names = (*PARAMETERS, *_TEXT_OPTIONS, *_JSON_OPTIONS, *_OTHER_OPTIONS)
    values = {name: getattr(args, name) for name in names}
    options: GenerateOptions = {n: v for n, v in values.items() if v is not None}  # type: ignore[assignment]  # mypy cannot check computed keys
    messages = None
    if args.system is not None:
        messages = [Message("system", args.system), Message("user", prompt)]
    text = prompt if messages is None else None
    if output.json:
        output.document(client.generate(args.model, text, messages=messages, **options))
    elif args.stream:
        with client.stream(args.model, text, messages=messages, **options) as pieces:
            for piece in pieces:
                output.text(piece, end="")
        output.text("")
        _name_fallback(pieces.completion, output)
    else:
        reply = client.generate(args.model, text, messages=messages, **options)
        output.text(reply.text)
        _name_fallback(reply, output)
    return 0


def _name_fallback(reply: Completion, output: Output) -> None:
    """Say which model has answered if it is not the one that was asked."""
    if reply.failed_models:
        failed = "; ".join(f"{one.model}: {one.reason}" for one in reply.failed_models)
        output.warn(f"{reply.model} has answered, because others could not: {failed}")


def _add_generate(parser: argparse.ArgumentParser) -> None:
    _add_prompt(parser)
    parser.add_argument("--system", metavar="TEXT", help="instructions, as a system message")
    parser.add_argument("--stream", action="store_true", help="print the text piece by piece")
    for name, parameter in PARAMETERS.items():
        _add_parameter(parser, name, parameter)
    for name, (metavar, about) in _TEXT_OPTIONS.items():
        parser.add_argument(_flag(name), metavar=metavar, help=about)
    parser.add_argument(
        "--choice",
        action="append",
        dest="choices",
        metavar="TEXT",
        help="the text is one of the choices (repeat the option for each)",
    )
    parser.add_argument(
        "--json-object", action="store_true", default=None, help="the text is a JSON object"
    )
    for name, about in _JSON_OPTIONS.items():
        parser.add_argument(_flag(name), type=_json_object, metavar="JSON", help=about)
    parser.add_argument(
        "--fallback-models",
        nargs="*",
        metavar="NAME",
        help="models that answer if MODEL cannot, for a reason that waiting does not "
        "fix; without a name: none, even if the router's configuration has some",
    )
    parser.add_argument(
        "--cache-use",
        choices=[str(use) for use in CacheUse],
        help="allow: the router's cache may answer; bypass: it is neither read nor written "
        "(default: it may answer calls that are greedy or have a seed)",
    )


def _add_parameter(parser: argparse.ArgumentParser, name: str, parameter: Parameter) -> None:
    about = f"{parameter.help} ({parameter.range})" if parameter.range else parameter.help
    if parameter.type is bool:
        parser.add_argument(_flag(name), action="store_true", default=None, help=about)
    elif issubclass(parameter.type, StrEnum):
        values = [str(value) for value in parameter.type]
        parser.add_argument(_flag(name), choices=values, help=parameter.help)
    elif parameter.keyed:
        parser.add_argument(_flag(name), type=_token_values, metavar="ID=X,ID=X", help=about)
    else:
        parser.add_argument(
            _flag(name),
            type=parameter.type,
            action="append" if parameter.max_items else "store",
            metavar=_METAVARS[parameter.type],
            help=about,
        )


def _token_values(text: str) -> dict[int, float]:
    """Read "15=-100,7=2.5"."""
    pairs = (pair.partition("=") for pair in text.split(","))
    try:
        return {int(token): float(value) for token, _, value in pairs}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not ID=NUMBER,ID=NUMBER") from None


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"it is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('it is not a JSON object, such as {"name": 1}')
    return value


def _add_prompt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="full name, with its prefix")
    parser.add_argument("prompt", metavar="PROMPT", help="the prompt, or - for standard input")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _read_prompt(argument: str) -> str:
    """Return the argument, or standard input for "-"."""
    if argument != "-":
        return argument
    try:
        if sys.stdin is None:  # closed by the shell (<&-)
            raise OSError(errno.EBADF, "it is closed")
        # Bytes that are not UTF-8 become lone surrogates, which the client refuses.
        return sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise InvalidArgumentError(
            f"standard input cannot be read: {error.strerror}",
            reason="INVALID_REQUEST",
            field="prompt",
        ) from None


def score(client: Client, args: argparse.Namespace, output: Output) -> int:
    """Print the score of each continuation, in order."""
    scores = client.score(args.model, _read_prompt(args.prompt), args.continuations)
    if output.json:
        output.document(scores)
    else:
        output.table(
            ("CONTINUATION", "LOGPROB", "TOKENS"),
            [(s.text, f"{s.logprob:.4f}", str(len(s.tokens))) for s in scores],
        )
    return 0


def _add_score(parser: argparse.ArgumentParser) -> None:
    _add_prompt(parser)
    parser.add_argument(
        "continuations",
        nargs="+",
        metavar="CONTINUATION",
        help='a text to score, such as "Paris" for a chat model, " Paris" for a base model',
    )


def health(client: Client, args: argparse.Namespace, output: Output) -> int:
    """Print the health and the processes with a problem; fail unless the target serves.

    An unreachable backend does not fail the command: the target serves the others.
    """
    status = client.health()
    info = client.service_info()
    if output.json:
        output.document({"target": client.target, "status": status, **as_plain(info)})
    else:
        rows = [(client.target, status, f"{info.service} {info.software_version}")]
        rows += [
            (f"{backend.backend} {replica.address}", replica.state.upper(), replica.detail or "-")
            for backend in info.backends
            for replica in backend.replicas
            if replica.state != ReplicaState.SERVING or replica.detail
        ]
        for backend in info.backends:
            states = [replica.state for replica in backend.replicas]
            serving = states.count(ReplicaState.SERVING)
            if 0 < serving < len(states):
                rows.append((backend.backend, f"{serving} of {len(states)} replicas", "-"))
        output.table(("WHERE", "STATUS", "DETAIL"), rows)
    return 0 if status == "SERVING" else 1


def _add_nothing(parser: argparse.ArgumentParser) -> None:
    pass


@dataclass(frozen=True)
class Command:
    """A subcommand: its help text, its function, and the function that adds its arguments."""

    help: str
    run: Callable[[Client, argparse.Namespace, Output], int]
    add_arguments: Callable[[argparse.ArgumentParser], None] = _add_nothing


COMMANDS: Mapping[str, Command] = {
    "top": Command("show live what is called, and by whom", top.run, top.add_arguments),
    "models": Command("list every reachable model", list_models),
    "check": Command("say whether models are usable now; fail if one is not", check, _add_models),
    "generate": Command("print one completion", generate, _add_generate),
    "score": Command("print the log-probability of continuations", score, _add_score),
    "token": Command(
        "make, list or revoke the tokens of a router's callers", tokens.run, tokens.add_arguments
    ),
    "health": Command("say whether the target serves, and which backends it cannot reach", health),
}
