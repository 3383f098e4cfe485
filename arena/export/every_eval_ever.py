"""Exports results in the schema of Every Eval Ever, which several evaluation programs share.

Source of the format: version 0.3.0 of https://github.com/evaleval/every_eval_ever.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

from arena.export.source import UNKNOWN, Exported, PlayedSeat, Source, make_file_name, split_name
from arena.report.outcomes import SeatOutcome, find_outcome
from arena.report.units import is_local
from arena.results.rows import ModelRow

_SCHEMA = "0.3.0"


def export_every_eval_ever(source: Source, folder: Path, organization: str) -> Exported:
    """Write data/<experiment>/<developer>/<model>/<uuid>.json, and its samples beside it.

    organization: who ran the evaluation. `every_eval_ever validate FILES`, run from the
    folder, checks them. Raises OSError.
    """
    files: list[Path] = []
    notes: list[str] = []
    for model in source.models:
        parts = (source.name, *split_name(model.model or ""))
        if parts[1] == UNKNOWN:
            notes.append(f"{model.agent}: the name {model.model} does not say who made the model")
        place = Path("data", *map(make_file_name, parts))
        (folder / place).mkdir(parents=True, exist_ok=True)
        # The same player's file has the same name, so a second export replaces the first.
        name = f"{source.name}\n{model.agent}\n{model.config}".encode()
        key = str(uuid.UUID(bytes=hashlib.sha256(name).digest()[:16], version=4))
        record = _make_record(source, model, organization)
        samples, rows = place / f"{key}_samples.jsonl", 0
        with (folder / samples).open("w", encoding="utf-8") as file:
            for played in source.seats(model.agent):
                sample = _make_sample(played, source, record)
                file.write(json.dumps(sample, separators=(",", ":")) + "\n")
                rows += 1
        record["detailed_evaluation_results"] = {
            "format": "jsonl",
            "file_path": samples.as_posix(),
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256((folder / samples).read_bytes()).hexdigest(),
            "total_rows": rows,
        }
        path = folder / place / f"{key}.json"
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        files += [path, folder / samples]
    return Exported(files, notes)


def _make_record(source: Source, model: ModelRow, organization: str) -> dict[str, Any]:
    """Return the record of a model, without its samples. Unknown times are left out."""
    backend = (model.model or "").partition("_")[0]
    local = is_local(model)
    developer, name = split_name(model.model or "")
    now, ended = int(time.time()), int(source.ended.timestamp())
    model_id = f"{developer}/{name}"
    return {
        "schema_version": _SCHEMA,
        "evaluation_id": f"{source.name}/{model_id}/{now}",
        **({"evaluation_timestamp": str(ended)} if ended else {}),
        "retrieved_timestamp": str(now),
        "source_metadata": {
            "source_name": "Arena LLM",
            "source_type": "evaluation_run",
            "source_organization_name": organization,
            "evaluator_relationship": "other",
        },
        "eval_library": {
            "name": "arena_llm",
            "version": metadata.version("arena-llm-services"),
        },
        "model_info": {
            "name": model.model,
            "id": model_id,
            "developer": developer,
            "inference_platform": backend,
            "additional_details": {
                "deployment_type": "self_deployed" if local else "externally_managed",
                "model_availability": "open_weights" if local else UNKNOWN,
                "player": model.agent,
                "settings": model.config,
            },
        },
        "evaluation_results": [
            {
                "evaluation_result_id": found.game,
                "evaluation_name": found.game,
                "source_data": {"dataset_name": source.name, "source_type": "other"},
                "metric_config": {
                    "evaluation_description": (
                        "points of each game: 1 for a win, 1/2 for a draw, 0 for a loss"
                        if found.competitive
                        else "the mean return"
                    ),
                    "metric_name": found.quantity,
                    "lower_is_better": False,
                    "score_type": "continuous",
                    "min_score": found.bounds[0],
                    "max_score": found.bounds[1],
                },
                "score_details": {
                    "score": found.mean.value,
                    "uncertainty": {
                        "confidence_interval": {
                            "lower": found.mean.low,
                            "upper": found.mean.high,
                            "confidence_level": 0.95,
                            "method": found.mean.method,
                        },
                        "num_samples": found.mean.n,
                    },
                },
            }
            for found in source.results(model.agent)
        ],
    }


def _make_sample(played: PlayedSeat, source: Source, record: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a seat of an episode. is_correct: whether it won."""
    episode = played.episode
    messages: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    calls = [move for move in played.own if move.model]
    for move in calls:
        messages.append({"turn_idx": len(messages), "role": "user", "content": move.prompt})
        reply: dict[str, Any] = {
            "turn_idx": len(messages), "role": "assistant", "content": move.reply or "",
        }  # fmt: skip
        if move.reasoning:
            reply["reasoning_trace"] = move.reasoning
        if move.status == "ok":
            answers.append(
                {
                    "turn_idx": reply["turn_idx"],
                    "source": f"messages[{reply['turn_idx']}].content",
                    "extracted_value": move.action_text or "",
                    "extraction_method": move.reading or "custom",
                    "is_terminal": False,
                }
            )
        messages.append(reply)
    if answers:
        answers[-1]["is_terminal"] = True
    competitive = source.summary.is_competitive(episode.game)
    outcome = find_outcome(episode, played.seat, competitive=competitive)
    prompt = sum(move.prompt_tokens or 0 for move in calls)
    completion = sum(move.completion_tokens or 0 for move in calls)
    counted = all(None not in (move.prompt_tokens, move.completion_tokens) for move in calls)
    return {
        "schema_version": _SCHEMA,
        "evaluation_id": record["evaluation_id"],
        "model_id": record["model_info"]["id"],
        "evaluation_name": episode.game,
        "evaluation_result_id": episode.game,
        "sample_id": played.id,
        "interaction_type": "multi_turn",
        "input": {"raw": calls[0].prompt if calls else "", "reference": []},
        "output": None,
        "messages": messages,
        "answer_attribution": answers,
        "evaluation": {
            # 0 stands for no return; the status in metadata says so.
            "score": played.reward or 0.0,
            "is_correct": outcome is SeatOutcome.WIN,
            "num_turns": len(calls),
        },
        **(
            {
                "token_usage": {
                    "input_tokens": prompt,
                    "output_tokens": completion,
                    "total_tokens": prompt + completion,
                }
            }
            if counted
            else {}
        ),
        "error": episode.reason if episode.status == "failed" else None,
        "metadata": {
            "episode": episode.name, "status": episode.status, "seat": str(played.seat),
            "agents": ", ".join(episode.agents), "outcome": outcome.value if outcome else "none",
        },
    }  # fmt: skip
