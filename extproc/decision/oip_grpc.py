"""gRPC methods of the Open Inference Protocol, by their paths."""

from sluice.contract.paths import OIP_GRPC_PREFIX

_PREFIX = OIP_GRPC_PREFIX.encode()

SERVER_METHODS = frozenset((b"ServerLive", b"ServerReady", b"ServerMetadata"))
"""Methods whose request message names no model."""

CLIENT_METHODS = SERVER_METHODS | {
    b"ModelInfer", b"ModelReady", b"ModelMetadata", b"ModelStreamInfer",
}  # fmt: skip
"""Methods that clients may call for every model. ModelStreamInfer is an extension by Triton.

A model can list others in `extra_grpc_methods`, but not methods that load models or share memory:
their request messages do not begin with the name and the version of a model, so they could not be
checked.
"""


def is_method_path(path: bytes) -> bool:
    """Whether the path is a path of the protocol's gRPC service."""
    return path.startswith(_PREFIX)


def method_name(path: bytes) -> bytes:
    """The name of the method at this path. A query is ignored."""
    return path.partition(b"?")[0].removeprefix(_PREFIX)
