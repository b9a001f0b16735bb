"""gRPC over HTTP/2 (grpc/doc/PROTOCOL-HTTP2.md), without I/O: request headers, length-prefixed
messages, and the header blocks of responses.
"""
