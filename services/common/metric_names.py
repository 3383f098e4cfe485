"""The one table of the metrics: names, kinds, labels and buckets.

Where OpenTelemetry has a name for a metric or an attribute, the table has it, and Prometheus's form
of it is used: dots become underscores, and the unit is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

#: Buckets of a duration in seconds, and of one token. OpenTelemetry advises factors of 2 for both;
#: quantiles need finer ones.
_SECONDS = (
    *(0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16, 0.24, 0.32, 0.48, 0.64),
    *(0.96, 1.28, 1.92, 2.56, 3.84, 5.12, 7.68, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36),
)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)


class Label(NamedTuple):
    """A label: its name for Prometheus, and OpenTelemetry's name of the attribute, if any."""

    name: str
    otel: str = ""


RPC = Label("rpc_method", "rpc.method")
MODEL = Label("gen_ai_request_model", "gen_ai.request.model")
REASON = Label("error_type", "error.type")
TOKEN_TYPE = Label("gen_ai_token_type", "gen_ai.token.type")
BACKEND = Label("backend")
CODE = Label("code")
OUTCOME = Label("outcome")
#: The name of a token of the router, which its operator chose.
CLIENT = Label("client")


class Metric(NamedTuple):
    """A metric: its name for Prometheus, kind, meaning and labels, and OpenTelemetry's name."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[Label, ...] = ()
    otel: str = ""
    buckets: tuple[float, ...] = ()
    #: Of several workers, show the largest figure, not the sum.
    largest: bool = False


_OF_MODEL = (MODEL, BACKEND)
_OF_CALL = (RPC, *_OF_MODEL)

METRICS: Mapping[str, Metric] = {
    "calls": Metric(
        "arena_llm_calls_total", "counter", "Calls that have ended.", (*_OF_CALL, CODE, REASON)
    ),
    "duration": Metric(
        "gen_ai_server_request_duration_seconds",
        "histogram",
        "Time of a call, from its arrival to its end.",
        _OF_CALL,
        "gen_ai.server.request.duration",
        _SECONDS,
    ),
    "first_token": Metric(
        "gen_ai_server_time_to_first_token_seconds",
        "histogram",
        "Time to the first token, where it was observed.",
        _OF_MODEL,
        "gen_ai.server.time_to_first_token",
        _SECONDS,
    ),
    "per_token": Metric(
        "gen_ai_server_time_per_output_token_seconds",
        "histogram",
        "Time for each token after the first one.",
        _OF_MODEL,
        "gen_ai.server.time_per_output_token",
        _TOKEN_SECONDS,
    ),
    "queue": Metric(
        "arena_llm_queue_seconds",
        "histogram",
        "Time that a call waited before work on it began.",
        _OF_MODEL,
        buckets=_SECONDS,
    ),
    "tokens": Metric(
        "gen_ai_client_token_usage",
        "histogram",
        "Tokens of a call: input (with cached ones), cached, output.",
        (*_OF_MODEL, TOKEN_TYPE),
        "gen_ai.client.token.usage",
        _TOKENS,
    ),
    "cost": Metric("arena_llm_cost_usd_total", "counter", "Known cost, in dollars.", _OF_MODEL),
    "client_calls": Metric(
        "arena_llm_client_calls_total", "counter", "Calls of each token.", (CLIENT,)
    ),
    "client_tokens": Metric(
        "arena_llm_client_tokens_total",
        "counter",
        "Language model tokens of each access token.",
        (CLIENT, TOKEN_TYPE),
    ),
    "client_cost": Metric(
        "arena_llm_client_cost_usd_total", "counter", "Known cost of each token.", (CLIENT,)
    ),
    "attempts": Metric(
        "arena_llm_upstream_attempts_total",
        "counter",
        "Requests to providers; error_type is empty for those that were answered.",
        (*_OF_MODEL, REASON),
    ),
    "sessions_moved": Metric(
        "arena_llm_sessions_moved_total",
        "counter",
        "Sessions whose call was answered by another replica than the one before.",
        (BACKEND,),
    ),
    "cache": Metric(
        "arena_llm_cache_calls_total",
        "counter",
        "Calls that the router's cache may answer: hit, miss, or error of its store.",
        (OUTCOME,),
    ),
    "in_flight": Metric("arena_llm_calls_in_flight", "gauge", "Calls that run.", (MODEL,)),
    "waiting": Metric(
        "arena_llm_calls_waiting", "gauge", "Calls that wait for a place.", _OF_MODEL
    ),
    "held": Metric(
        "arena_llm_calls_held",
        "gauge",
        "Calls that wait for a replica of a backend that has none, at a route with `hold`.",
        (BACKEND,),
    ),
    "running": Metric(
        "arena_llm_engine_running", "gauge", "Requests in the engine's batch.", _OF_MODEL
    ),
    "paused": Metric(
        "arena_llm_upstream_paused",
        "gauge",
        "1 while the provider refuses all calls of a model.",
        _OF_MODEL,
        largest=True,
    ),
    "breaker": Metric(
        "arena_llm_breaker_open",
        "gauge",
        "1 while a breaker is open, 0.5 while it probes.",
        (*_OF_MODEL, REASON),
        largest=True,
    ),
}
