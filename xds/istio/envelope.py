"""The envelope in which istiod gets a resource: its namespace, name and version, and its spec.

istiod applies a resource only if its version differs from the one that it has, so the version is a
hash of the content. Without a time of creation, a resource counts as older than every object of
Kubernetes.
"""

import hashlib

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from protos.istio_mcp_pb2 import Resource as Envelope
from xds.protocol.snapshot import Resource


def enveloped(name: str, message_url: str, spec: Message) -> Resource:
    """The resource with this spec. `name`: NAMESPACE/NAME. `message_url`: the type of the spec."""
    content = spec.SerializeToString(deterministic=True)
    envelope = Envelope(body=AnyMessage(type_url=message_url, value=content))
    envelope.metadata.name = name
    envelope.metadata.version = hashlib.sha256(content).hexdigest()[:16]
    return Resource.of(envelope.SerializeToString())
