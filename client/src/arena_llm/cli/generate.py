"""arena-llm generate MODEL PROMPT"""

from __future__ import annotations

import argparse
import errno
import sys
from typing import Any

from arena_llm.cli._output import Output
from arena_llm.client import Client
from arena_llm.errors import InvalidArgumentError
from arena_llm.types import SAMPLING_PARAMETERS, GenerateOptions, Message

HELP = "print one completion"

#: Options besides the sampling parameters: metavar and help.
_OTHERS = {
    "json_schema": ("JSON", "the text must be JSON that this schema accepts"),
    "regex": ("PATTERN", "the whole text must match"),
    "session": ("NAME", "the game; calls of a session share a prefix cache"),
}
_METAVARS = {int: "N", float: "X", str: "TEXT"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the prompt and the options of a completion."""
    parser.add_argument("model", metavar="MODEL", help="full name, with its prefix")
    parser.add_argument("prompt", metavar="PROMPT", help="the prompt, or - for standard input")
    parser.add_argument("--system", metavar="TEXT", help="instructions, as a system message")
    parser.add_argument("--stream", action="store_true", help="print the text as it grows")
    for name, parameter in SAMPLING_PARAMETERS.items():
        parser.add_argument(
            _flag(name),
            type=parameter.kind,
            action="append" if parameter.max_items else "store",
            metavar=_METAVARS[parameter.kind],
            help=f"{parameter.help} ({parameter.range})",
        )
    for name, (metavar, about) in _OTHERS.items():
        parser.add_argument(_flag(name), metavar=metavar, help=about)
    parser.add_argument(
        "--choice",
        action="append",
        dest="choices",
        metavar="TEXT",
        help="the text must be one of the choices (repeatable)",
    )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def run(client: Client, args: argparse.Namespace, output: Output) -> int:
    """Print the text; as JSON, the whole completion."""
    prompt = read_prompt(args.prompt)
    given: dict[str, Any] = {
        name: getattr(args, name)
        for name in (*SAMPLING_PARAMETERS, *_OTHERS, "choices")
        if getattr(args, name) is not None
    }
    options: GenerateOptions = given  # type: ignore[assignment]  # the names are GenerateOptions'
    messages = None
    if args.system is not None:
        messages = [Message("system", args.system), Message("user", prompt)]
    text = prompt if messages is None else None
    if not args.stream or output.json:
        completion = client.generate(args.model, text, messages=messages, **options)
        if output.json:
            output.document(completion)
        else:
            output.text(completion.text)
        return 0
    with client.stream(args.model, text, messages=messages, **options) as deltas:
        for delta in deltas:
            output.text(delta, end="")
    output.text("")
    return 0


def read_prompt(argument: str) -> str:
    """The argument, or standard input for "-"."""
    if argument != "-":
        return argument
    try:
        if sys.stdin is None:  # closed by the shell (<&-)
            raise OSError(errno.EBADF, "it is closed")
        # Bytes that are not UTF-8 become lone surrogates, which the client refuses by name.
        return sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise InvalidArgumentError(
            f"standard input cannot be read: {error.strerror}",
            reason="INVALID_REQUEST",
            field="prompt",
        ) from None
