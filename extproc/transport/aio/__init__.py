"""The edge of our own transport: sockets, tasks and timers of the running event loop (asyncio or
uvloop) around `http2` and `grpc`.
"""
