"""Tells Envoy (`make up EDGE=envoy`) whether a call may skip the router.

If the router has tokens, Envoy asks before it sends a call straight to a service. It asks by the
method Check of envoy.service.auth.v3.Authorization. The router never refuses here: a call that may
not pass goes to the router itself, which refuses it with its own reasons, or counts its quotas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from router.routing import AUTHORIZATION, MODEL_HEADER
from services.common.handlers import Context
from services.common.tenant import TENANT_HEADER

#: The name of the router among Envoy's clusters.
ROUTER = "router"
#: The header by which Envoy sends a call to the router.
DOOR_HEADER = "arena-door"

SERVICE = "envoy.service.auth.v3.Authorization"
METHOD = f"/{SERVICE}/Check"

#: The parts of Envoy's messages that are used, with Envoy's numbers. The names are ours, because
#: another library in the process may have registered Envoy's.
_MESSAGES = """
name: "arena_llm/edge.proto" package: "arena_llm.edge" syntax: "proto3"
message_type {
  name: "CheckRequest"
  field { name: "attributes" number: 1 type: TYPE_MESSAGE type_name: ".arena_llm.edge.Attributes" }
}
message_type {
  name: "Attributes"
  field { name: "request" number: 4 type: TYPE_MESSAGE type_name: ".arena_llm.edge.Request" }
}
message_type {
  name: "Request"
  field { name: "http" number: 2 type: TYPE_MESSAGE type_name: ".arena_llm.edge.Http" }
}
message_type {
  name: "Http"
  field {
    name: "headers" number: 3 label: LABEL_REPEATED type: TYPE_MESSAGE
    type_name: ".arena_llm.edge.Http.HeadersEntry"
  }
  nested_type {
    name: "HeadersEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING }
    field { name: "value" number: 2 type: TYPE_STRING }
  }
}
message_type {
  name: "CheckResponse"
  field { name: "status" number: 1 type: TYPE_MESSAGE type_name: ".arena_llm.edge.Status" }
  field { name: "ok" number: 3 type: TYPE_MESSAGE type_name: ".arena_llm.edge.Ok" }
}
message_type { name: "Status" field { name: "code" number: 1 type: TYPE_INT32 } }
message_type {
  name: "Ok"
  field {
    name: "headers" number: 2 label: LABEL_REPEATED type: TYPE_MESSAGE
    type_name: ".arena_llm.edge.Option"
  }
}
message_type {
  name: "Option"
  field { name: "header" number: 1 type: TYPE_MESSAGE type_name: ".arena_llm.edge.Header" }
  field { name: "action" number: 3 type: TYPE_INT32 }
}
message_type {
  name: "Header"
  field { name: "key" number: 1 type: TYPE_STRING }
  field { name: "value" number: 2 type: TYPE_STRING }
}
"""
#: HeaderValueOption.append_action: OVERWRITE_IF_EXISTS_OR_ADD.
_OVERWRITE = 2


def _load_messages() -> Mapping[str, Any]:
    file = text_format.Parse(_MESSAGES, descriptor_pb2.FileDescriptorProto())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = ("CheckRequest", "CheckResponse")
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}"))
        for name in names
    }


_TYPES = _load_messages()


def make_check_handler(find_holder: Callable[[str, str], str]) -> grpc.GenericRpcHandler[Any, Any]:
    """Return the handler of Check.

    find_holder: returns the name of the token for a header `authorization` and a model; "" if the
    router must see the call.
    """
    to_router = _answer(DOOR_HEADER, ROUTER)
    straight: dict[str, bytes] = {}

    async def check(data: bytes, _: Context) -> bytes:
        headers = _TYPES["CheckRequest"].FromString(data).attributes.request.http.headers
        name = find_holder(headers.get(AUTHORIZATION, ""), headers.get(MODEL_HEADER, ""))
        if not name:
            return to_router
        if name not in straight:
            straight[name] = _answer(TENANT_HEADER, name)
        return straight[name]

    return grpc.method_handlers_generic_handler(
        SERVICE, {"Check": grpc.unary_unary_rpc_method_handler(check)}
    )


def _answer(key: str, value: str) -> bytes:
    """Return the answer that lets a call pass and gives it one more header."""
    header = {"header": {"key": key, "value": value}, "action": _OVERWRITE}
    response = _TYPES["CheckResponse"](status={"code": 0}, ok={"headers": [header]})
    return bytes(response.SerializeToString())
