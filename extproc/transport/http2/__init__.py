"""HTTP/2 for servers (RFC 9113), without I/O and without a clock.

Received bytes become calls to the layer above; its calls become bytes to send. `aio` owns the
sockets, `grpc` owns the meaning of requests.
"""
