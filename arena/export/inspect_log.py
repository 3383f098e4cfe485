"""Exports logs that Inspect's viewer and `read_eval_log` open: one for each model.

The format is version 2 of the .eval file (https://inspect.aisi.org.uk/eval-logs.html): a ZIP file
of JSON, with one entry for each sample, so that the viewer loads the samples that it shows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from arena.export.source import Exported, PlayedSeat, Source, make_file_name
from arena.report.outcomes import find_outcome
from arena.results.rows import ModelRow, MoveRow

_VERSION = 2

#: Columns of a move that an event has, unless they are empty.
_EVENT = (
    "ply", "seat", "attempt", "status", "agent", "action", "action_text", "problem", "policy",
    "board", "reading",
)  # fmt: skip


def export_inspect(source: Source, folder: Path) -> Exported:
    """Write <model>.eval for each model that played. Raises OSError.

    A sample is a seat of an episode: its prompts and replies are the messages, the moves of all
    seats are events, and the scores are return and outcome.
    """
    files = []
    for model in source.models:
        path = folder / f"{make_file_name(model.agent)}.eval"
        with ZipFile(path, "w", ZIP_DEFLATED) as archive:
            _write_log(archive, source, model)
        files.append(path)
    return Exported(files)


def _write_log(archive: ZipFile, source: Source, model: ModelRow) -> None:
    summaries: list[dict[str, Any]] = []
    times: list[int] = []
    failed = 0
    for played in source.seats(model.agent):
        sample = _make_sample(played, source)
        _put(archive, f"samples/{sample['id']}_epoch_1.json", sample)
        kept = ("id", "epoch", "input", "target", "scores", "metadata", "model_usage")
        summary = {name: sample[name] for name in kept}
        if "error" in sample:
            summary["error"] = sample["error"]["message"]
        summary |= {"completed": True, "message_count": len(sample["messages"])}
        summaries.append(summary)
        if played.episode.ended:
            times.append(played.episode.ended)
        failed += played.episode.status == "failed"
    spec = _make_spec(source, model, summaries, times)
    plan = {"name": "plan", "steps": [], "config": {}}
    _put(archive, "_journal/start.json", {"version": _VERSION, "eval": spec, "plan": plan})
    _put(archive, "summaries.json", summaries)
    usage = _add_usage([summary["model_usage"] for summary in summaries])
    _put(
        archive,
        "header.json",
        {
            "version": _VERSION,
            "status": "success",
            "eval": spec,
            "plan": plan,
            "results": {
                "total_samples": len(summaries),
                "completed_samples": len(summaries) - failed,
                "scores": _make_scores(source, model),
            },
            "stats": {
                "started_at": _format_time(min(times, default=0)),
                "completed_at": _format_time(max(times, default=0)),
                "model_usage": usage,
            },
        },
    )


def _make_spec(
    source: Source, model: ModelRow, summaries: Sequence[Mapping[str, Any]], times: Sequence[int]
) -> dict[str, Any]:
    return {
        "eval_id": f"{source.name}-{model.agent}",
        "run_id": source.name,
        "created": _format_time(min(times, default=0)),
        "task": source.name,
        "task_id": source.name,
        "task_version": 0,
        "dataset": {
            "name": source.name,
            "samples": len(summaries),
            "sample_ids": [summary["id"] for summary in summaries],
        },
        # Inspect names models PROVIDER/NAME.
        "model": "/".join((model.model or model.agent).split("_", 1)),
        "model_args": json.loads(model.config),
        "config": {},
        "packages": {"arena-llm-services": metadata.version("arena-llm-services")},
        "metadata": {"agent": model.agent, "games": source.summary.games},
    }


def _make_sample(played: PlayedSeat, source: Source) -> dict[str, Any]:
    episode, prompted = played.episode, [move for move in played.own if move.prompt is not None]
    model = source.summary.participants[episode.agents[played.seat]].model or ""
    messages = [message for move in prompted for message in _make_messages(move)]
    output = _make_output(model, prompted[-1]) if prompted else {"model": model, "choices": []}
    sample: dict[str, Any] = {
        "id": played.id,
        "epoch": 1,
        "input": prompted[0].prompt if prompted else "",
        "target": "",
        "messages": messages,
        "output": output,
        "scores": _score(played, source),
        "metadata": {
            "episode": episode.name, "game": episode.game, "number": episode.number,
            "seat": played.seat, "agents": list(episode.agents), "status": episode.status,
            "plies": episode.plies, "deal": str(episode.seed), "reason": episode.reason or "",
        },
        "store": {},
        "events": [_make_event(move, episode.ended) for move in played.moves],
        "model_usage": _count_usage(model, played.own),
    }  # fmt: skip
    if episode.status == "failed":
        why = episode.reason or "the episode failed"
        sample["error"] = {"message": why, "traceback": "", "traceback_ansi": ""}
    return sample


def _make_messages(move: MoveRow) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": move.prompt}]
    if move.model:
        content: Any = move.reply or ""
        if move.reasoning:
            reasoning = {"type": "reasoning", "reasoning": move.reasoning}
            content = [reasoning, {"type": "text", "text": content}]
        messages.append({"role": "assistant", "content": content, "model": move.model})
    return messages


def _make_output(model: str, last: MoveRow) -> dict[str, Any]:
    ends = {"length": "max_tokens", "content_filter": "content_filter"}
    choice = {
        "message": {"role": "assistant", "content": last.reply or "", "model": last.model},
        "stop_reason": ends.get(last.finish_reason or "", "stop"),
    }
    return {"model": last.model or model, "choices": [choice], "completion": last.reply or ""}


def _make_event(move: MoveRow, ended: int) -> dict[str, Any]:
    values = {name: value for name in _EVENT if (value := getattr(move, name)) not in (None, "")}
    return {
        "event": "info",
        "source": "arena",
        # The arena stores when an episode ended, not when each move was made.
        "timestamp": _format_time(ended),
        "working_start": 0.0,
        "data": values,
    }


def _score(played: PlayedSeat, source: Source) -> dict[str, Any]:
    episode = played.episode
    scores: dict[str, Any] = {}
    if played.reward is not None:
        scores["return"] = {"value": played.reward}
    competitive = source.summary.is_competitive(episode.game)
    if outcome := find_outcome(episode, played.seat, competitive=competitive):
        scores["outcome"] = {"value": outcome.value}
    return scores


def _make_scores(source: Source, model: ModelRow) -> list[dict[str, Any]]:
    return [
        {
            "name": found.game,
            "scorer": found.quantity,
            "scored_samples": found.mean.n,
            "metrics": {
                name: {"name": name, "value": value}
                for name, value in zip(("mean", "low", "high"), found.mean, strict=False)
            },
            "metadata": {"interval": "95 %, of independent deals"},
        }
        for found in source.results(model.agent)
    ]


def _count_usage(model: str, own: Sequence[MoveRow]) -> dict[str, dict[str, Any]]:
    """Return the tokens and dollars of a seat by model; what is not known is left out."""
    usage: dict[str, dict[str, Any]] = {}
    for move in own:
        if not move.model:
            continue
        used = usage.setdefault(
            move.model or model, {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        )
        used["input_tokens"] += move.prompt_tokens or 0
        used["output_tokens"] += move.completion_tokens or 0
        used["total_tokens"] += (move.prompt_tokens or 0) + (move.completion_tokens or 0)
        if move.cost_picousd is not None:
            used["total_cost"] = used.get("total_cost", 0.0) + move.cost_picousd / 1e12
    return usage


def _add_usage(parts: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    total: dict[str, dict[str, Any]] = {}
    for part in parts:
        for model, used in part.items():
            sums = total.setdefault(model, {})
            for name, value in used.items():
                sums[name] = sums.get(name, 0) + value
    return total


def _format_time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _put(archive: ZipFile, name: str, value: object) -> None:
    archive.writestr(name, json.dumps(value, separators=(",", ":")))
