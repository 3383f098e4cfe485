"""Starts a provider, a service and the router from installed files; prints the router's address.

It runs with `python -I` in an environment that has the services, in an empty folder, and ends with
its standard input. The configuration is the example in the description of the installed package.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

#: The model of the example in the description of arena-llm-services.
MODEL = "openai/gpt-4o-mini"
#: What it answers; also a legal action of many games.
TEXT = "0"


class _Provider(BaseHTTPRequestHandler):
    """A provider on this machine with OpenAI's API."""

    def do_GET(self) -> None:
        self._send({"data": [{"id": MODEL}]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        common = {"id": "1", "created": 1, "model": request["model"]}
        usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
        message = {"role": "assistant", "content": TEXT}
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        if request.get("stream"):
            chunk = {**common, "choices": [{**choice, "delta": message}], "usage": usage}
            self._write(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n", "text/event-stream")
        else:
            self._send({**common, "choices": [{**choice, "message": message}], "usage": usage})

    def _send(self, document: dict[str, Any]) -> None:
        self._write(json.dumps(document), "application/json")

    def _write(self, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def start_provider() -> str:
    """Start a provider in a thread and return its base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"


def read_examples() -> dict[str, str]:
    """The files that the package's description shows, by name."""
    text = str(metadata("arena-llm-services").json["description"])
    blocks = re.findall(r"^```yaml\n# (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return {Path(name).name: content for name, content in blocks}


@contextlib.contextmanager
def serve(module: str) -> Iterator[str]:
    """Run a server of the package; yields its address when it serves."""
    # -I: the server finds no module in this folder either.
    command = [sys.executable, "-I", "-m", module]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if serving := re.search(r" event=serving .* address=(\S+)", line):
            break
    else:
        sys.exit(f"{module} does not serve:\n{''.join(lines)}")
    rest = threading.Thread(target=lines.extend, args=(process.stderr,))
    rest.start()
    try:
        yield serving[1]
    finally:
        process.terminate()
        rest.join()
        if status := process.wait():
            sys.exit(f"{module} ended with {status}:\n{''.join(lines)}")


def main() -> None:
    examples = read_examples()
    Path("configs").mkdir()
    hosted = examples["openrouter_models.yaml"].replace("127.0.0.1:50051", "127.0.0.1:0")
    hosted += f"base_url: {start_provider()}\ndialect: openai\n"
    Path("configs/openrouter_models.yaml").write_text(hosted)
    prices = f"prices: {{openrouter_{MODEL}: {{prompt: 1, completion: 1}}}}\n"
    Path("experiment.yaml").write_text(examples["experiment.yaml"] + prices)
    with serve("services.openrouter") as service:
        router = examples["router.yaml"].replace("127.0.0.1:50050", "127.0.0.1:0")
        Path("configs/router.yaml").write_text(router.replace("127.0.0.1:50051", service))
        with serve("router") as target:
            print(target, flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main()
