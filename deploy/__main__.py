import os

if __name__ == "__main__":
    # gRPC reads it when it is imported. Its own messages about a listener that cannot be reached
    # would stand among ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from deploy.commands import main

    main()
