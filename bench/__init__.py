"""Benchmarks (`make bench`): ratios of ways measured within one run, with their goals."""

#: Each is a module with a `main` and its `GOALS`.
BENCHMARKS = (
    "router",
    "overheads",
    "openrouter",
    "latency",
    "gateways",
    "gateway",
    "edge",
    "rates",
    "bill",
    "hf",
    "vllm",
    "arena",
    "store",
    "commands",
    "changes",
    "fleet",
)
