"""The router: LlmService over all backends, by the prefix of a model's name.

Two variables that gRPC reads when it starts, so before anything imports it:
ring hash by a header, which keeps a session on one replica, is behind one
(gRFC A76); and gRPC's notes about every connection that goes are noise beside a
log that names the backend.
"""

import os

os.environ["GRPC_EXPERIMENTAL_RING_HASH_SET_REQUEST_HASH_KEY"] = "true"
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
