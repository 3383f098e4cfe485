"""schemathesis against the gateway: `fuzz.py URL EXAMPLES`. Makes requests from its document.

The model always exists, because otherwise most requests would fail for its name.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.request
from importlib.metadata import version
from pathlib import Path

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
PATHS = ("/v1/chat/completions", "/v1/completions")


def main(url: str, examples: int) -> int:
    print(f"schemathesis {version('schemathesis')}", flush=True)
    with urllib.request.urlopen(f"{url}/openapi.json") as answer:  # noqa: S310 - our own address
        document = json.load(answer)
    for name in ("ChatRequest", "CompletionRequest"):
        document["components"]["schemas"][name]["properties"]["model"] = {"const": "echo_model"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "openapi.json"
        file.write_text(json.dumps(document))
        command = [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", str(file)),
            *("--url", url, "--phases", "fuzzing", "--mode", "all", "--seed", "1"),
            *("--max-examples", str(examples // len(PATHS)), "--checks", ",".join(CHECKS)),
            *("--generation-database", "none", "--no-color", "--suppress-health-check", "all"),
            *("--request-timeout", "10", "--warnings", "off"),
            *(word for path in PATHS for word in ("--include-path", path)),
        ]
        return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
