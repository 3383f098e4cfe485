"""arena-llm score MODEL PROMPT CHOICE..."""

from __future__ import annotations

import argparse

from arena_llm.cli._output import Output
from arena_llm.cli.generate import read_prompt
from arena_llm.client import Client

HELP = "print the log-probability of each choice after a prompt"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the prompt and the choices."""
    parser.add_argument("model", metavar="MODEL", help="full name, with its prefix")
    parser.add_argument("prompt", metavar="PROMPT", help="the prompt, or - for standard input")
    parser.add_argument("choices", nargs="+", metavar="CHOICE", help="a continuation to score")


def run(client: Client, args: argparse.Namespace, output: Output) -> int:
    """Print the scores in the order of the choices."""
    scores = client.score(args.model, read_prompt(args.prompt), args.choices)
    if output.json:
        output.document(scores)
    else:
        output.table(
            ("CHOICE", "LOGPROB", "TOKENS"),
            [(score.text, f"{score.logprob:.4f}", str(score.tokens)) for score in scores],
        )
    return 0
