"""The prompts that the hf benchmark uses on both sides."""

from __future__ import annotations

THINGS = ("river", "clock", "garden", "bridge", "lamp", "forest", "train", "island")
PEOPLE = ("a baker", "a sailor", "a teacher", "a painter")


def story_prompts(count: int) -> list[str]:
    """Prompts of about 60 tokens whose answers are longer than any limit used here."""
    rules = "Write in plain words, in the past tense, and describe every scene with care. "
    return [
        f"{rules * 2}Tell a very long story about {PEOPLE[i % len(PEOPLE)]} and the "
        f"{THINGS[i % len(THINGS)]} number {i}."
        for i in range(count)
    ]


def long_prompt() -> str:
    """A game prompt of about 250 tokens with the chat template."""
    board = "Row one: empty, X, O. Row two: X, O, empty. Row three: empty, empty, X. "
    return (
        "You play tic-tac-toe as O. The cells are numbered 0 to 8, row by row. "
        + board * 7
        + "Answer with the number of the cell you choose."
    )
