"""The router: LlmService over all backends, by the prefix of a model's name.

gRPC reads these variables when it is imported. The first enables the ring hash by a header
(gRFC A76), which keeps a session on one replica. The second hides gRPC's own messages about lost
connections, because the router logs them by backend.
"""

import os

os.environ["GRPC_EXPERIMENTAL_RING_HASH_SET_REQUEST_HASH_KEY"] = "true"
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
