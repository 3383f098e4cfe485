"""guidellm puts a load on the gateway: `guidellm_load.py URL`. The model is echo_model."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import run

#: Requests of the run, which has so many rows of data: guidellm does not repeat them.
REQUESTS = 20


def check_all_requests_succeed(url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data, report = Path(folder, "prompts.jsonl"), Path(folder, "report.json")
        rows = [{"prompt": f"say one two three {number}"} for number in range(REQUESTS)]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = [
            str(Path(sys.executable).with_name("guidellm")), "run",
            "--backend", f"kind=openai_http,target={url},model=echo_model",
            "--profile", "kind=concurrent,streams=4",
            "--constraint", f"kind=max_requests,count={REQUESTS}",
            "--data", f"kind=json_file,path={data}",
            "--output", f"kind=json,path={report}",
            "--disable-console",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        (benchmark,) = json.loads(report.read_text())["benchmarks"]
    totals = benchmark["metrics"]["request_totals"]
    assert totals["successful"] == REQUESTS, totals
    assert totals["errored"] == totals["incomplete"] == 0, totals
    # The words that the backend counts: guidellm reads the usage of the stream.
    tokens = benchmark["metrics"]["output_token_count"]["successful"]
    assert tokens["mean"] == 4, tokens


run(globals(), f"guidellm {importlib.metadata.version('guidellm')}")
