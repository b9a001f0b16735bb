"""HTTP/2 for servers (RFC 9113) without I/O and without a clock: bytes in, calls to the layer
above; calls from it, bytes out. Sockets belong to `aio`, gRPC to `grpc`.
"""
