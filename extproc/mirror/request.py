"""Makes the copy of a request: its path, its headers and its body for the other version."""

from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from extproc.framing import PREFIX, PREFIX_SIZE, length_prefixed
from extproc.policy.compiled import CompiledMirror, ModelPolicy, Policy
from protos.inference_pb2 import ModelInferRequest
from sluice.contract import headers as names
from sluice.contract.paths import OIP_GRPC_PREFIX, OIP_PREFIX

GRPC_INFER: Final = f"{OIP_GRPC_PREFIX}ModelInfer"

_OMITTED: Final = frozenset(
    (
        "connection", "content-length", "expect", "host", "keep-alive", "proxy-connection",
        "transfer-encoding", "upgrade", names.MODEL_SERVICE, names.MODEL_VERSION,
    )
)  # fmt: skip
"""Headers of the connection, and those that the copy has with other values."""


class Observed(Protocol):
    """A request, as far as its copy depends on it."""

    @property
    def model(self) -> ModelPolicy: ...

    @property
    def mirror(self) -> CompiledMirror: ...

    @property
    def headers(self) -> Mapping[str, bytes]: ...

    @property
    def body(self) -> bytes: ...


def copied_path(path: str, observed: Observed) -> str:
    """The path. A path that names the stable version names the other one in the copy."""
    versions = f"{OIP_PREFIX}{observed.model.name}/versions/"
    stable = f"{versions}{observed.model.stable.version}/"
    if not path.startswith(stable):
        return path
    return f"{versions}{observed.mirror.target.version}/{path.removeprefix(stable)}"


def copied_headers(policy: Policy, observed: Observed) -> list[tuple[str, bytes]]:
    """The headers, with those of the decision. `x-sluice-mirror` tells the model server."""
    sent = observed.headers
    target = observed.mirror.target
    subject = sent.get(names.SUBJECT) or sent.get(names.VERIFIED_SUBJECT)
    return [
        ("host", sent.get(":authority", b"")),
        *_kept(policy, sent),
        (names.MODEL_SERVICE, target.cluster.encode()),
        (names.MODEL_VERSION, target.version.encode()),
        (names.MODEL, target.model.encode()),
        *([] if subject is None else [(names.SUBJECT, subject)]),
        (names.MIRROR, b"true"),
    ]


def _kept(policy: Policy, sent: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    secret = () if policy.forward_credentials else (*names.CREDENTIALS, policy.api_key_header)
    for name, value in sent.items():
        internal = name.startswith((":", names.INTERNAL_PREFIX, "x-envoy-"))
        if not internal and name not in _OMITTED and name not in secret:
            yield name, value


def copied_body(path: str, observed: Observed) -> bytes:
    """The body. A gRPC message that names the stable version names the other one in the copy."""
    body, stable = observed.body, observed.model.stable.version
    if path.partition("?")[0] != GRPC_INFER or len(body) < PREFIX_SIZE:
        return body
    compressed, length = PREFIX.unpack_from(body)
    if compressed or length != len(body) - PREFIX_SIZE or stable.encode() not in body:
        return body
    try:
        message = ModelInferRequest.FromString(body[PREFIX_SIZE:])
    except Exception:  # a DecodeError; the server refuses the message
        return body
    if message.model_version != stable:
        return body
    message.model_version = observed.mirror.target.version
    return length_prefixed(message.SerializeToString())
