"""gRPC server and client on asyncio or uvloop: sockets, tasks and timers around `http2` and
`grpc`.
"""
