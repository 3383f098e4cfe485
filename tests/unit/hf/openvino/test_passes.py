"""What one pass reads, what is shared, and what a failed pass costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest

from arena_llm.types import Choices, Completion, RawPrompt, Regex
from services.common.errors import UpstreamUnavailable
from services.hf.forward import Floats
from services.hf.loading import LoadedModel
from services.hf.openvino.compiled import Chunk
from services.hf.openvino.forward import PagedForward
from services.hf.openvino.pace import Pace
from tests.unit.hf.conftest import Checkpoints
from tests.unit.hf.engine_driver import (
    LONG,
    DrivenRequest,
    DrivenScoring,
    engine,
    load_tiny,
    request,
    settle,
)


@pytest.fixture(scope="module")
def loaded(checkpoint: Checkpoints) -> LoadedModel:
    """A model of its own, because two pools must not share one cache."""
    return load_tiny(checkpoint("llama"), engine="openvino")


class Watched:
    """A model that records its passes. fails: a token whose pass fails."""

    def __init__(self, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
        forward = loaded.forward
        assert isinstance(forward, PagedForward)
        self.forward = PagedForward(forward.model, 64, 500_000)
        self.passes: list[list[Chunk]] = []
        self.fails: int | None = None
        self._run = forward.model.run
        monkeypatch.setattr(forward.model, "run", self.run)

    def run(self, chunks: Sequence[Chunk]) -> Floats:
        self.passes.append([*chunks])
        if any(self.fails in chunk.tokens for chunk in chunks):
            raise RuntimeError("a pass is broken")
        return self._run(chunks)

    @property
    def free(self) -> int:
        return self.forward._pool.available


@pytest.fixture
def watched(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(loaded, monkeypatch)


class EverySecond(Pace):
    """A piece of 20 tokens in every second pass, however long the passes take."""

    piece = 20
    _turn = 0

    def next_piece(self) -> int:
        self._turn += 1
        return self.piece * (self._turn % 2)


def end(driven: DrivenRequest) -> Completion:
    """The completion of a request of which some deltas were taken."""
    while not isinstance(event := driven.next(), Completion):
        pass
    return event


def test_a_stream_gets_a_token_in_every_pass_beside_callers_of_choices(
    loaded: LoadedModel, watched: Watched
) -> None:
    watched.forward._paces = defaultdict(EverySecond)
    with engine(watched.forward, max_batch=32) as running:
        stream = DrivenRequest(loaded, running, request("8", Regex("[89]{900}"), max_tokens=300))
        stream.next()
        watched.passes.clear()
        moves = [
            DrivenRequest(loaded, running, request(f"{n} " * 40, Choices(("1", "2", "3"))))
            for n in range(12)
        ]
        for move in moves:
            move.completion()
        passes = [*watched.passes]
        end(stream)
    beside = [chunks for chunks in passes if any(chunk.past == 0 for chunk in chunks)]
    assert len(beside) > 5
    assert all(len(chunks[0].tokens) == 1 for chunks in passes), "the stream is in each pass"
    assert len(beside) <= len(passes) / 2 + 1
    assert all(sum(len(chunk.tokens) for chunk in chunks) <= 21 for chunks in passes)


def test_forced_tokens_of_one_row_do_not_hold_up_another(
    loaded: LoadedModel, watched: Watched
) -> None:
    moves = Choices(tuple(f"x({row},{column})" for row in (0, 1) for column in (0, 1)))
    with engine(watched.forward) as running:
        free = DrivenRequest(loaded, running, LONG)
        free.next()
        DrivenRequest(loaded, running, request("7", moves, seed=3)).completion()
        end(free)
    assert any({len(chunk.tokens) for chunk in chunks} == {1, 2} for chunks in watched.passes)


def test_a_failed_pass_fails_only_the_prompt_at_fault(
    loaded: LoadedModel, watched: Watched
) -> None:
    with engine(watched.forward) as running:
        decoding = DrivenRequest(loaded, running, LONG)
        decoding.next()
        watched.fails = 300
        failing = DrivenRequest(loaded, running, request(RawPrompt(token_ids=(7, 300, 8))))
        with pytest.raises(UpstreamUnavailable):
            failing.completion()
        assert end(decoding).usage.completion_tokens == 40


def test_every_block_comes_back(loaded: LoadedModel, watched: Watched) -> None:
    free = watched.free
    with engine(watched.forward) as running:
        cancelled = [DrivenRequest(loaded, running, request(f"{n} " * 50)) for n in range(6)]
        for driven in cancelled[::2]:
            driven.sequence.cancel()
        DrivenScoring(loaded, running, "7" * 90, "1 2 3", "5", "4 5 6 7 8").sums()
        scoring = DrivenScoring(loaded, running, "7" * 90, "1 2 3", "4 5 6 7 8")
        scoring.job.cancel()
        for driven in cancelled[1::2]:
            driven.completion()
        watched.fails = 300
        failing = DrivenRequest(loaded, running, request(RawPrompt(token_ids=(7, 300, 8))))
        with pytest.raises(UpstreamUnavailable):
            failing.completion()
        watched.fails = None
        DrivenRequest(loaded, running, request("7", Choices(("1",)))).completion()
        settle(running)
    assert watched.free == free


def test_the_next_turn_finds_the_whole_turn_before_it(
    loaded: LoadedModel, watched: Watched
) -> None:
    prompt = tuple(range(5, 25))
    with engine(watched.forward) as running:
        first = DrivenRequest(
            loaded, running, request(RawPrompt(token_ids=prompt), Regex("[89]{90}"), max_tokens=60)
        )
        first.completion()
        settle(running)
        turn = (*prompt, *first.sequence.tokens)
        second = request(RawPrompt(token_ids=(*turn, 9, 9, 9)), max_tokens=1)
        usage = DrivenRequest(loaded, running, second).completion().usage
    assert usage.cached_tokens == len(turn) - 1, "the last token was drawn, but not read"


def test_a_repeated_prompt_is_known_but_for_two_tokens(
    loaded: LoadedModel, watched: Watched
) -> None:
    prompt = request(RawPrompt(token_ids=tuple(range(5, 85))), Regex("[89]{90}"), max_tokens=9)
    with engine(watched.forward) as running:
        first = DrivenRequest(loaded, running, prompt)
        texts = [DrivenRequest(loaded, running, prompt).completion() for _ in range(3)]
        first.completion()
    assert [text.usage.cached_tokens for text in texts] == [78] * 3


def test_prompts_share_the_beginning_of_a_block(loaded: LoadedModel, watched: Watched) -> None:
    with engine(watched.forward) as running:
        for rest, cached in (((50, 51), 0), ((52, 53), 40), ((50, 54), 41), ((52, 55), 41)):
            prompt = RawPrompt(token_ids=(*range(100, 140), *rest, 60, 61))
            completion = DrivenRequest(loaded, running, request(prompt, max_tokens=1)).completion()
            assert completion.usage.cached_tokens == cached
