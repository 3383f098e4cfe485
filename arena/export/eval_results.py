"""Exports results as Hugging Face's .eval_results, the entries of a leaderboard on the Hub.

Source of the format: https://huggingface.co/docs/hub/eval-results.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from arena.export.source import Exported, Source, make_file_name


def export_eval_results(source: Source, folder: Path, dataset: str) -> Exported:
    """Write <player>/.eval_results/<experiment>.yaml, to put into the model's repository.

    dataset: the id of the benchmark's dataset on the Hub, such as "lab/games". Each game is a task
    of it. Raises OSError.
    """
    files = []
    for model in source.models:
        entries = [
            {
                "dataset": {"id": dataset, "task_id": found.game},
                "value": round(found.mean.value, 6),
                "date": source.ended.date().isoformat(),
                "notes": (
                    f"{found.quantity}, 95 % interval {found.mean.low:.4g} to "
                    f"{found.mean.high:.4g} from {found.mean.n} independent deals"
                ),
            }
            for found in source.results(model.agent)
        ]
        name = f"{make_file_name(source.name)}.yaml"
        path = folder / make_file_name(model.agent) / ".eval_results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(entries, sort_keys=False), encoding="utf-8")
        files.append(path)
    return Exported(files)
