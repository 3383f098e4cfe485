"""Domain types to and from the wire: pure functions, each used by both ends."""

from arena_llm._convert.answers import (
    completion_from_proto,
    completion_to_proto,
    scoring_from_proto,
    scoring_to_proto,
)
from arena_llm._convert.models import (
    availability_from_proto,
    availability_to_proto,
    models_from_proto,
    models_to_proto,
)
from arena_llm._convert.requests import (
    FieldError,
    generate_request_from_proto,
    generate_request_to_proto,
    is_available_request_to_proto,
    score_request_from_proto,
    score_request_to_proto,
)

__all__ = [
    "FieldError",
    "availability_from_proto",
    "availability_to_proto",
    "completion_from_proto",
    "completion_to_proto",
    "generate_request_from_proto",
    "generate_request_to_proto",
    "is_available_request_to_proto",
    "models_from_proto",
    "models_to_proto",
    "score_request_from_proto",
    "score_request_to_proto",
    "scoring_from_proto",
    "scoring_to_proto",
]
