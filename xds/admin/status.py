"""What operators see of the control plane: the state in force, the nodes, the last error.

And the config itself, without what must not be seen.
"""

import json
import time

from pydantic import BaseModel

from sluice.config import GatewayConfig
from xds.protocol.nodes import Node, NodeKind, Nodes
from xds.protocol.snapshot import Snapshot
from xds.protocol.sotw import TypeState
from xds.rollout.rollout import Rollout
from xds.sources.file import CompiledConfig

REDACTED = "(redacted)"


class TypeStatus(BaseModel):
    """The last response of a node for one resource type, at the time `at` (seconds, epoch).

    `acked` and `nacked` are versions (`version_info`). `in_sync`: the node has accepted the
    published resources of this type.
    """

    in_sync: bool
    acked: str | None
    nacked: str | None = None
    reason: str | None = None
    at: float | None = None


class NodeStatus(BaseModel):
    """One connected node. `version`: the config version that it accepted completely last."""

    id: str
    kind: NodeKind
    agent: str
    pid: int | None
    version: str | None
    connected_at: float
    types: dict[str, TypeStatus]


class Status(BaseModel):
    """`GET /v1/status`. `error` is why the latest change is not in force; None if it is.

    `callout` is the address at which the callout tells its own status (`telemetry.metrics`).
    """

    version: str | None
    in_sync: bool
    step: str | None
    config: str
    error: str | None
    unresponsive: tuple[str, ...]
    restart_required: tuple[str, ...]
    changed_at: float
    callout: str
    nodes: list[NodeStatus]


class ControlPlaneState:
    """Joins what source, rollout and nodes know."""

    def __init__(self, path: str, loaded: CompiledConfig, nodes: Nodes, rollout: Rollout) -> None:
        self._path = path
        self._nodes = nodes
        self._rollout = rollout
        self._loaded = loaded
        self._file_error: str | None = None
        self._changed_at = time.time()
        self.changes = {"accepted": 1, "refused": 0}
        """How many states of the file have been read, by whether they were valid."""

    @property
    def config(self) -> GatewayConfig:
        """The latest valid config."""
        return self._loaded.config

    def accepted(self, loaded: CompiledConfig) -> None:
        """The file has been read and is valid."""
        self._loaded, self._file_error, self._changed_at = loaded, None, time.time()
        self.changes["accepted"] += 1

    def refused(self, reason: str) -> None:
        """The file has been read and is not valid."""
        self._file_error = reason
        self.changes["refused"] += 1

    def status(self) -> Status:
        """The state now."""
        result = self._rollout.result
        return Status(
            version=self._rollout.version,
            in_sync=self._rollout.in_sync,
            step=self._rollout.step,
            config=self._path,
            error=self._file_error or self._rejection(),
            unresponsive=result.unresponsive if result else (),
            restart_required=self._loaded.restart_required,
            changed_at=self._changed_at,
            callout=self.config.telemetry.metrics.address,
            nodes=sorted(
                (_node(node, self._nodes.snapshot) for node in self._nodes),
                key=lambda node: (node.kind, node.id),
            ),
        )

    def _rejection(self) -> str | None:
        """The NACK that ended the latest rollout, or that a node sent when it connected later."""
        result = self._rollout.result
        nacks = [result.nack if result else None, *(node.nack() for node in self._nodes)]
        return next((str(nack) for nack in nacks if nack is not None), None)


def _node(node: Node, snapshot: Snapshot) -> NodeStatus:
    pid = node.metadata.get("pid")
    return NodeStatus(
        id=node.id,
        kind=node.kind,
        agent=node.agent,
        pid=int(pid) if isinstance(pid, float | int) else None,
        version=node.version,
        connected_at=node.connected_at,
        types={
            each.name: _type(state, node.stream.in_sync(snapshot, (each,)))
            for each, state in node.stream.types.items()
        },
    )


def _type(state: TypeState, in_sync: bool) -> TypeStatus:
    return TypeStatus(
        in_sync=in_sync,
        acked=state.acked.info if state.acked else None,
        nacked=state.nacked.info if state.nacked else None,
        reason=state.reason,
        at=state.at,
    )


def redacted(config: GatewayConfig) -> dict[str, object]:
    """The config as plain data, without secret keys and without hashes of API keys."""
    data: dict[str, object] = json.loads(config.model_dump_json())
    auth = data["auth"]
    assert isinstance(auth, dict)
    for key in auth["api_keys"]:
        key["sha256"] = REDACTED
    for issuer in auth["issuers"]:
        if issuer["jwks"] is not None:
            issuer["jwks"] = _public_keys(issuer["jwks"])
    return data


_PUBLIC = frozenset(
    {"kty", "kid", "use", "alg", "key_ops", "crv", "x", "y", "n", "e", "x5c", "x5t", "x5t#S256"}
)
"""Members of a JWK that are public (RFC 7517 section 4, RFC 7518 section 6): others may be keys."""


def _public_keys(text: str) -> str:
    """A key set without private members; what is no key set is not shown at all."""
    try:
        keys = [
            {name: value if name in _PUBLIC else REDACTED for name, value in key.items()}
            for key in json.loads(text)["keys"]
        ]
    except (ValueError, LookupError, TypeError, AttributeError):
        return REDACTED
    return json.dumps({"keys": keys})
