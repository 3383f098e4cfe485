import os

if __name__ == "__main__":
    # gRPC reads it when it is imported. Otherwise gRPC would print its own messages about
    # unreachable listeners among ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from deploy.commands import main

    main()
