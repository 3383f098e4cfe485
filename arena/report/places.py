"""Where in the list of a prompt the actions stood that a model chose: position bias."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from arena.agents.prompt import order_actions
from arena.experiment.schedule import turn_seed
from arena.report.outcomes import Sample
from arena.results.columns import Numbers
from arena.results.rows import EpisodeRow, ModelRow, MoveRow


class ListPlace(NamedTuple):
    """The place of a chosen action in a list of actions, from 0, and the list's length."""

    place: int
    listed: int


@dataclass(slots=True)
class PlaceStats:
    """The places of a player's chosen actions in one game.

    order: of the list (see PromptSettings.actions). chosen: how often each place was. expected: how
    often it would be if all places of a list were equally likely. first, last: of each episode, the
    share of turns with this place, minus the expected share. depths: the mean of each episode,
    where 0 is the first place and 1 the last.
    """

    order: str
    turns: int = 0
    first_chosen: int = 0
    last_chosen: int = 0
    by_chance: float = 0.0
    chosen: Counter[int] = field(default_factory=Counter)
    expected: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    first: Sample = field(default_factory=Sample)
    last: Sample = field(default_factory=Sample)
    depths: Sample = field(default_factory=Sample)

    def add(self, unit: Numbers, places: list[ListPlace]) -> None:
        """Count the turns of an episode. unit: of the episode."""
        turns = len(places)
        first = sum(found.place == 0 for found in places)
        last = sum(found.place == found.listed - 1 for found in places)
        by_chance = sum(1 / found.listed for found in places)
        self.turns += turns
        self.first_chosen += first
        self.last_chosen += last
        self.by_chance += by_chance
        for found in places:
            self.chosen[found.place] += 1
            for place in range(found.listed):
                self.expected[place] += 1 / found.listed
        self.first.add(unit, (first - by_chance) / turns)
        self.last.add(unit, (last - by_chance) / turns)
        self.depths.add(unit, sum(found.place / (found.listed - 1) for found in places) / turns)


def read_order(row: ModelRow) -> str:
    """Return in which order a player's prompts list the legal actions; "" if they do not."""
    if row.type != "llm":
        return ""
    try:
        prompt = json.loads(row.config).get("prompt") or {}
        order = str(prompt.get("actions", "listed"))
    except (ValueError, AttributeError, RecursionError):
        return ""  # the file of another program
    return order if order in ("listed", "reversed", "shuffled") else ""


def find_places(
    episode: EpisodeRow, moves: Iterable[MoveRow], seat: int, order: str
) -> Iterator[ListPlace]:
    """Yield the place of each action that a seat chose among several.

    moves: with their legal actions.
    """
    for move in moves:
        legal = move.legal_actions or ()
        # A random action in place of an illegal one was not chosen.
        if move.seat == seat and move.status == "ok" and move.agent and len(legal) > 1:
            seed = turn_seed(episode.seed, seat, move.ply)
            listed = [action for action, _ in order_actions(legal, order, seed)]
            if move.action in listed:
                yield ListPlace(listed.index(move.action), len(listed))
