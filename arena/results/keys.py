"""Keys of players and episodes: the hash of everything that decides how they play. Pure.

Names, prices, time limits, and the versions of the arena and of the contract are not part of a
key, so they may change without an episode being played again. Equal keys mean the same episode in
every experiment and in every file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from arena.results.rows import ModelRow, canonical_json

#: Changes if keys are made in another way.
_VERSION = 1


def hash_text(text: str, size: int = 16) -> str:
    """Return the hash of a text as hexadecimal digits. size: in bytes, of two digits each."""
    return blake2b(text.encode(), digest_size=size).hexdigest()


def normalise(value: Any) -> Any:
    """Return a JSON value in which equal numbers are equal, and without keys that are null."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: normalise(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [normalise(item) for item in value]
    return value


def identify_players(models: Iterable[ModelRow]) -> dict[str, tuple[str, int]]:
    """Return the identity of each player of an experiment, as canonical JSON, and its copy number.

    Players with equal settings are copies of one player: 0 is the first one in the list.
    """
    copies: Counter[str] = Counter()
    players = {}
    for row in models:
        config = normalise(json.loads(row.config))
        settings = canonical_json({"type": row.type, "model": row.model, "config": config})
        copy = copies[settings]
        copies[settings] += 1
        identity = canonical_json({**json.loads(settings), "copy": copy})
        players[row.agent] = identity, copy
    return players


def identify_seat(identity: str, version: str) -> str:
    """Return a player of one game as JSON. version: of its prompts and reader in this game."""
    return f'{{"player":{identity},"version":{json.dumps(version)}}}'


#: An experiment makes hundreds of thousands of keys of the same few parts.
_to_json = lru_cache(maxsize=1_000)(json.dumps)


@lru_cache(maxsize=1_000)
def _sort_keys(game: str) -> str:
    return canonical_json(json.loads(game))


def make_episode_key(
    engine: str, game: str, max_plies: int | None, seats: Sequence[str], deal: int
) -> str:
    """Return an episode's key.

    engine: OpenSpiel's version. game: its name and all its parameters as canonical JSON. seats:
    see identify_seat. deal: the seed of chance.
    """
    return hash_text(
        f'{{"deal":{deal},"engine":{_to_json(engine)},"game":{game},'
        f'"max_plies":{_to_json(max_plies)},"seats":[{",".join(seats)}],"v":{_VERSION}}}'
    )


def make_deal(seed: int, game: str, number: int) -> int:
    """Return the seed of chance of a deal: 63 bits, which fit into an integer of SQLite.

    seed: the experiment's. game: as for make_episode_key. number: counts from 0. So all
    experiments with one seed share their deals, and a deal does not depend on who plays.
    """
    text = f'["deal",{seed},{_sort_keys(game)},{number}]'
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) >> 1
