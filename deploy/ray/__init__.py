"""The services on a Ray cluster, as deployments of Ray Serve behind its gRPC ingress."""
