"""Inspect reads exported logs: `inspect_reads.py LOG EPISODES`."""

import inspect_ai
from checks import run
from inspect_ai.log import read_eval_log, read_eval_log_sample_summaries


def check_the_log(path: str, episodes: str) -> None:
    log = read_eval_log(path)
    assert log.status == "success"
    assert log.eval.model == "hf/smollm2-135m-instruct"
    assert log.samples is not None
    assert len(log.samples) == int(episodes)
    (score,) = log.results.scores
    assert (score.name, score.scorer) == ("tic_tac_toe", "score")
    assert 0 <= score.metrics["low"].value <= score.metrics["mean"].value


def check_the_moves(path: str, _: str) -> None:
    sample = next(one for one in read_eval_log(path).samples if one.id == "key0-0")
    assert [(event.event, event.source) for event in sample.events] == [("info", "arena")] * 3
    assert [event.data["seat"] for event in sample.events] == [0, 1, 0]
    assert [message.role for message in sample.messages] == ["user", "assistant"] * 2
    assert sample.messages[1].text == '{"action": "x(1,1)"}'
    assert sample.scores["outcome"].value == "win"
    usage = sample.model_usage["hf_smollm2-135m-instruct"]
    assert (usage.input_tokens, usage.output_tokens) == (6, 4)


def check_a_failed_episode(path: str, _: str) -> None:
    sample = next(one for one in read_eval_log(path).samples if one.id == "key2-0")
    assert sample.error.message == "UNAVAILABLE down"


def check_the_list_of_the_viewer(path: str, episodes: str) -> None:
    summaries = read_eval_log_sample_summaries(path)
    assert len(summaries) == int(episodes)
    assert {summary.error for summary in summaries} == {None, "UNAVAILABLE down"}


run(globals(), f"inspect-ai {inspect_ai.__version__}")
