"""Alerts, dashboard and scrape configuration: they are correct, and fit the metrics that exist."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.services import ALL_SERVICES
from services.common.metric_names import METRICS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/observability"
#: What Prometheus itself adds.
THEIRS = {"job", "instance", "le", "up"}


def test_the_alerts_pass_their_own_tests(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        reason = "no promtool: apt-get install prometheus (Debian)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    # Debian's promtool knows no pods; everything else of the file it knows.
    cluster = yaml.safe_load((FOLDER / "prometheus-kubernetes.yaml").read_text())
    del cluster["scrape_configs"][0]["kubernetes_sd_configs"], cluster["rule_files"]
    file = tmp_path / "prometheus.yaml"
    file.write_text(yaml.safe_dump(cluster))
    for command in (
        ["test", "rules", "alerts_test.yaml"],
        ["check", "config", "prometheus.yaml"],
        ["check", "config", str(file)],
    ):
        done = subprocess.run(
            [promtool, *command], cwd=FOLDER, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def expressions() -> list[str]:
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    return [
        *(rule["expr"] for rule in rules),
        *(target["expr"] for panel in panels for target in panel["targets"]),
    ]


def test_every_expression_names_metrics_and_labels_that_exist() -> None:
    names = {"up"}
    for metric in METRICS.values():
        names.add(metric.name)
        if metric.kind == "histogram":
            names |= {f"{metric.name}_{part}" for part in ("bucket", "sum", "count")}
    labels = THEIRS | {label.name for metric in METRICS.values() for label in metric.labels}
    used = set()
    for expression in expressions():
        text = re.sub(r'"[^"]*"', "", expression)
        found = set(re.findall(r"\b(?:arena_llm|gen_ai)_\w+(?=\s*(?:\{|\[|==|\)|$))", text))
        assert found <= names | labels, expression
        used |= found
        for selector in re.findall(r"\{([^}]*)\}|by \(([^)]*)\)", text):
            assert set(re.findall(r"\w+", " ".join(selector))) <= labels, expression
    # What is measured is shown or alerted on.
    shown = {name for name in METRICS if any(METRICS[name].name in one for one in expressions())}
    assert set(METRICS) - shown == {"client_calls", "client_tokens"}


def test_prometheus_looks_where_the_services_show_their_metrics() -> None:
    text = (FOLDER / "prometheus.yaml").read_text()
    for service in ALL_SERVICES:
        if service.name == "edge":  # it has none
            continue
        config = service.config_path.read_text()
        (port,) = re.findall(rf"{service.metrics_variable}:-(\d+)", config)
        assert f"127.0.0.1:{port}" in text
