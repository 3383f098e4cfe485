"""Exports what models generated as token ids with rewards, to train on.

A row is one sequence of tokens: a prompt, and what followed it. The columns have TRL's names
(https://huggingface.co/docs/trl), and `datasets` reads the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from arena.export.source import Exported, PlayedSeat, Source
from arena.report.formatting import format_count
from arena.results.rows import MoveRow


@dataclass(slots=True)
class Rollout:
    """A sequence of tokens of one seat of an episode.

    completion_ids: everything after the prompt. logprobs: of each of them, the natural logarithm;
    0 where the model did not generate it. env_mask: 1 if the model generated it, 0 if it belongs to
    a later prompt. reward: of the seat in the episode. ply: of the first answer. answers: in this
    sequence, illegal ones included. logprob_kind: a name of the contract's LogprobKind.
    """

    episode: str
    game: str
    seat: int
    agent: str
    model: str
    ply: int
    reward: float
    logprob_kind: str
    prompt_ids: list[int]
    completion_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    env_mask: list[int] = field(default_factory=list)
    answers: int = 0
    illegal: int = 0

    def continues_with(self, prompt: list[int]) -> bool:
        """Whether a prompt begins with all tokens of this sequence, as in a conversation."""
        start = len(self.prompt_ids)
        end = start + len(self.completion_ids)
        return prompt[:start] == self.prompt_ids and prompt[start:end] == self.completion_ids

    def add(self, prompt: list[int], ids: list[int], logprobs: list[float]) -> None:
        """Add a prompt that continues this sequence, and the answer to it."""
        between = prompt[len(self.prompt_ids) + len(self.completion_ids) :]
        self.completion_ids += between + ids
        self.logprobs += [0.0] * len(between) + logprobs
        self.env_mask += [0] * len(between) + [1] * len(ids)


_COLUMNS = tuple(column.name for column in fields(Rollout))


def export_rollouts(source: Source, folder: Path) -> Exported:
    """Write rollouts.jsonl.

    Answers without token ids and log-probabilities are left out, and so are seats without a
    reward. Raises OSError.
    """
    path = folder / "rollouts.jsonl"
    written = without_ids = without_reward = 0
    with path.open("w", encoding="utf-8") as file:
        for played in source.seats():
            answers = [move for move in played.own if move.model]
            if played.reward is None:
                without_reward += bool(answers)
                continue
            usable = [move for move in answers if move.tokens and move.prompt_ids]
            for row in make_rollouts(played, played.reward, usable):
                # json.dump and asdict visit each token in Python.
                columns = {name: getattr(row, name) for name in _COLUMNS}
                file.write(json.dumps(columns, separators=(",", ":")) + "\n")
                written += row.answers
            without_ids += len(answers)
    without_ids -= written
    notes = []
    if without_ids:
        notes.append(
            f"{format_count(without_ids, 'answer')} without ids or log-probabilities left out: "
            "set store_tokens: true, token_ids: true and top_logprobs: 0 for a local model"
        )
    if without_reward:
        notes.append(
            f"{format_count(without_reward, 'seat')} without a return left out: the episode "
            "failed, or another seat forfeited"
        )
    return Exported([path], notes)


def make_rollouts(played: PlayedSeat, reward: float, answers: list[MoveRow]) -> Iterator[Rollout]:
    """Yield the sequences of a seat.

    An answer whose prompt begins with the whole sequence before it continues that sequence.
    """
    current: Rollout | None = None
    for move in answers:
        tokens = json.loads(move.tokens or "{}")
        ids: list[int] = tokens.get("ids", [])
        logprobs = [float(value) for value in tokens.get("logprobs", [])]
        if not ids or len(ids) != len(logprobs):
            continue
        prompt: list[int] = json.loads(move.prompt_ids or "[]")
        if current is None or not current.continues_with(prompt):
            if current is not None:
                yield current
            current = Rollout(
                played.episode.episode, played.episode.game, played.seat, move.agent or "",
                move.model or "", move.ply, reward, tokens.get("kind", ""), prompt,
            )  # fmt: skip
        current.add(prompt, ids, logprobs)
        current.answers += 1
        current.illegal += move.status != "ok"
    if current is not None:
        yield current
