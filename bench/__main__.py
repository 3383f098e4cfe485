"""`make bench`: every benchmark, each in a process of its own."""

import subprocess
import sys

BENCHMARKS = ("router", "hf", "vllm", "vllm_replicas", "openrouter", "gateways", "arena")

for name in BENCHMARKS:
    subprocess.run([sys.executable, "-m", f"bench.{name}"], check=True)
