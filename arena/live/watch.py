"""Reads a results file whenever it changes, for the browsers that show its episodes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping
from contextlib import aclosing, closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from arena.agents.calls import ModelReply
from arena.experiment.file import Experiment
from arena.experiment.schedule import EpisodeSpec, schedule
from arena.games.game import find_path
from arena.games.sandbox import Sandbox
from arena.live.feed import LiveFeed
from arena.live.follow import Follower
from arena.report.replay import verify
from arena.results.database import ResultsError, connect, raise_results_errors, read_version
from arena.results.integrity import VERSION
from arena.results.reader import Reader
from arena.results.rows import CallKey, EpisodeRow, MoveRow, reply_from_json

#: Seconds between two looks at the file.
_INTERVAL = 0.25
#: The pause after a look, as a multiple of the time that the look took.
_REST = 4
#: Nanoseconds after a commit from which on another commit surely changes the file's time.
_SETTLED = 10**9
#: Episodes in each of the two lists.
_LISTED = 50
#: Characters of a reply in a game that cannot be drawn.
_SHOWN = 300

#: Columns of a move that the page does not show.
_UNUSED = ("problem", "legal_actions", "prompt", "reply", "reasoning", "tokens", "prompt_ids")

_Replies = dict[CallKey, ModelReply]


class _Content(NamedTuple):
    """What a look at the file found. views: of those followed episodes that have ended."""

    listed: dict[str, Any]
    views: Mapping[str, dict[str, Any]] = {}
    replies: Mapping[str, _Replies] = {}


class _Followed:
    """An episode that a browser shows."""

    def __init__(self, episode: str) -> None:
        self.feed = LiveFeed({"episode": episode, "status": "unknown", "moves": []})
        self.follower: Follower | None = None

    def close(self) -> None:
        if self.follower is not None:
            self.follower.close()
            self.follower = None


class Watcher:
    """The episodes of a results file. episodes: the list of them.

    experiment: whose episodes can be drawn while they run; None: only their replies are shown.
    """

    def __init__(self, path: Path, experiment: Experiment | None = None) -> None:
        self._path = path
        self._experiment = experiment
        self._specs = {spec.episode: spec for spec in schedule(experiment)} if experiment else {}
        self._numbers = dict(_number_episodes(experiment)) if experiment else {}
        own = {find_path(game.spec) for game in experiment.games} if experiment else set()
        self._sandbox = Sandbox(own=own)
        self._followed: dict[str, _Followed] = {}
        self._look = asyncio.Event()
        self._checked = False
        self.episodes = LiveFeed({"running": [], "latest": [], "problem": ""})

    async def run(self) -> None:
        """Look at the file until cancelled."""
        seen: _Stamp | None = None
        pause = _INTERVAL
        try:
            while True:
                # With a connection that stays open, the run could not close its log.
                stamp = _stamp(self._path)
                if stamp != seen or self._look.is_set():
                    self._look.clear()
                    # A commit just after this look may leave the same stamp.
                    seen = stamp if time.time_ns() - stamp.newest > _SETTLED else None
                    wanted = [
                        key
                        for key, followed in self._followed.items()
                        if followed.feed.value["status"] in ("unknown", "running", "failed")
                    ]
                    started = time.monotonic()
                    self._show(await asyncio.to_thread(self._read, wanted))
                    # A large file takes longer, but must not occupy the processor all the time.
                    pause = max(_INTERVAL, _REST * (time.monotonic() - started))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._look.wait(), pause)
        finally:
            for followed in self._followed.values():
                followed.close()
                followed.feed.close()
            self.episodes.close()
            self._sandbox.close()

    async def follow(self, episode: str) -> AsyncGenerator[str, None]:
        """Yield the events of an episode."""
        if episode not in self._followed:
            self._followed[episode] = _Followed(episode)
            self._look.set()
        followed = self._followed[episode]
        try:
            async with aclosing(followed.feed.events()) as events:
                async for event in events:
                    yield event
        finally:
            if not followed.feed.readers and self._followed.get(episode) is followed:
                followed.close()
                del self._followed[episode]

    def _show(self, content: _Content) -> None:
        self.episodes.set(content.listed)
        for episode, view in content.views.items():
            if (followed := self._followed.get(episode)) is not None:
                followed.close()
                followed.feed.set(view)
        for episode, replies in content.replies.items():
            if not replies or (followed := self._followed.get(episode)) is None:
                continue
            spec = self._specs.get(episode)
            if spec is None or self._experiment is None:
                followed.feed.set(_describe_replies(episode, replies))
                continue
            if followed.follower is None:
                view = {**self._describe_spec(spec), "status": "running"}
                followed.follower = Follower(spec, self._experiment, followed.feed, view)
            followed.follower.take(replies)

    def _read(self, wanted: Collection[str]) -> _Content:
        listed: dict[str, Any] = {"running": [], "latest": [], "problem": ""}
        if not self._path.exists():
            return _Content({**listed, "problem": f"{self._path}: does not exist yet"})
        try:
            with (
                raise_results_errors(self._path),
                closing(connect(self._path, thorough=not self._checked)) as connection,
            ):
                self._checked = True  # later rows come from the user's run
                if read_version(connection) != VERSION:
                    raise ResultsError(f"{self._path}: is of another release: use arena report")
                connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
                connection.execute("BEGIN")
                reader = Reader(connection)
                latest = reader.select("SELECT id FROM episodes ORDER BY id DESC LIMIT ?", _LISTED)
                listed["latest"] = [
                    self._describe(episode) for episode in reader.pick([row[0] for row in latest])
                ]
                running = reader.select(
                    "SELECT episode, count(*) FROM calls"
                    " WHERE episode NOT IN (SELECT key FROM episodes) GROUP BY 1 LIMIT ?",
                    _LISTED,
                )
                listed["running"] = [self._describe_running(*row) for row in running]
                views: dict[str, dict[str, Any]] = {}
                replies: dict[str, _Replies] = {}
                for key in wanted:
                    if (episode := reader.find(key)) is not None:
                        views[key] = self._describe_ended(episode, reader.moves(episode, _UNUSED))
                    else:
                        replies[key] = _read_replies(reader, key)
        except Exception as error:  # a file of unknown origin can raise any
            return _Content({**listed, "problem": str(error) or type(error).__name__})
        return _Content(listed, views, replies)

    def _describe_running(self, episode: str, replies: int) -> dict[str, Any]:
        spec = self._specs.get(episode)
        known = self._describe_spec(spec) if spec else {"episode": episode}
        return {**known, "replies": replies}

    def _describe_spec(self, spec: EpisodeSpec) -> dict[str, Any]:
        return {
            "episode": spec.episode,
            "game": spec.game,
            "agents": list(spec.agents),
            "number": self._numbers[spec.episode],
        }

    def _describe(self, episode: EpisodeRow) -> dict[str, Any]:
        return {
            "episode": episode.episode,
            "game": episode.game,
            "agents": list(episode.agents),
            "number": self._numbers.get(episode.episode, _format_number(episode.number)),
            "status": episode.status,
            "reason": episode.reason,
            "returns": episode.returns and list(episode.returns),
            "loser": episode.loser,
        }

    def _describe_ended(self, episode: EpisodeRow, moves: list[MoveRow]) -> dict[str, Any]:
        played = [move for move in moves if move.action is not None]
        boards = [move.board for move in moves if move.board]
        last = verify(episode, moves, (), self._sandbox.play_actions).board
        if last is not None:
            boards.append(last)
        return {
            **self._describe(episode),
            "moves": [
                {"seat": None if move.seat < 0 else move.seat, "text": move.action_text or ""}
                for move in played
            ],
            "board": boards[-1] if boards else None,
            "before": boards[-2] if len(boards) > 1 else None,
        }


def _number_episodes(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Yield the key and the number of each episode; no two of a game have the same number."""
    lineups = {
        game.spec: {lineup: place for place, lineup in enumerate(game.lineups, 1)}
        for game in experiment.games
    }
    for spec in schedule(experiment):
        places = lineups[spec.game]
        lineup = places[spec.agents] if len(places) > 1 else None
        yield spec.episode, _format_number(spec.number, lineup)


def _format_number(number: int, lineup: int | None = None) -> str:
    """Return the number to show: "3", or "3.2" for the second of several line-ups."""
    return f"{number + 1}.{lineup}" if lineup else f"{number + 1}"


class _Stamp(NamedTuple):
    """Differs after every commit. newest: when a file was written last, in nanoseconds."""

    files: tuple[tuple[int, int, int], ...]
    newest: int


def _stamp(path: Path) -> _Stamp:
    stats = []
    for file in (path, path.with_name(f"{path.name}-wal")):
        with suppress(OSError):
            stats.append(file.stat())
    files = tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)
    return _Stamp(files, max((stat.st_mtime_ns for stat in stats), default=0))


def _read_replies(reader: Reader, episode: str) -> _Replies:
    rows = reader.select(
        "SELECT ply, seat, attempt, reply FROM calls WHERE episode = ? ORDER BY 1, 2, 3", episode
    )
    return {CallKey(episode, *place): reply_from_json(reply) for *place, reply in rows}


def _describe_replies(episode: str, replies: _Replies) -> dict[str, Any]:
    """Return the view of a running episode whose game is not known. The key does not tell it."""
    return {
        "episode": episode,
        "status": "running",
        "problem": "start `arena live` with --config EXPERIMENT to see the board",
        "moves": [
            {"seat": key.seat, "text": f"{reply.model}: {reply.text[:_SHOWN]}"}
            for key, reply in replies.items()
        ],
    }
