from arena_llm.v1 import generate_pb2 as _generate_pb2
from arena_llm.v1 import models_pb2 as _models_pb2
from arena_llm.v1 import reply_pb2 as _reply_pb2
from arena_llm.v1 import score_pb2 as _score_pb2
from arena_llm.v1 import service_info_pb2 as _service_info_pb2
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor
