"""The tokens of a reply as JSON, for the column moves.tokens.

The JSON is that of the message TokenTrace: columns of ids, log-probabilities and bytes (base64).
"""

from __future__ import annotations

import json

from google.protobuf import json_format

from arena_llm.types import TokenTrace
from arena_llm.v1 import reply_pb2
from arena_llm.wire import to_message


def tokens_to_json(tokens: TokenTrace) -> str:
    """Return tokens as JSON that is equal for equal tokens."""
    message = to_message(tokens, reply_pb2.TokenTrace)
    values = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return json.dumps(values, separators=(",", ":"), sort_keys=True)
