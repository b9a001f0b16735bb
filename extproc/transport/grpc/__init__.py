"""gRPC over HTTP/2 as its protocol description has it (grpc/doc/PROTOCOL-HTTP2.md), without I/O:
requests' headers, message framing, and the header blocks of responses.
"""
