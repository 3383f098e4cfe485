"""`python -m bench._yardstick LISTEN TARGET`: the least that a gRPC proxy in Python can be."""

import asyncio
import sys

import grpc
import uvloop


async def serve(listen: str, target: str) -> None:
    channel = grpc.aio.insecure_channel(target)
    path = "/arena_llm.v1.LlmService/Generate"
    forward = channel.unary_unary(path)

    async def generate(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return await forward(data)

    handler = grpc.unary_unary_rpc_method_handler(generate)
    server = grpc.aio.server()
    service, method = path[1:].split("/")
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    server.add_insecure_port(listen)
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[1:]))
