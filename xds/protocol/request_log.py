"""Logs the requests of one node. Each event is logged once, so that a node cannot fill the log."""

import logging

from sluice.printable import printable
from xds.protocol.nodes import MAX_NODE_TEXT, Node
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import TypeVersion

log = logging.getLogger(__name__)

MAX_UNKNOWN_TYPES = 16
"""Unknown types that are logged for one node. Envoy has about as many types."""


class RequestLog:
    """Logs what a node requests and rejects on one stream."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._unknown: set[str] = set()
        self._rejected: dict[ResourceType, TypeVersion] = {}

    def connected(self) -> None:
        """The node has sent its identity."""
        log.info("node %s connected (%s)", self._node.id, self._node.agent or "unknown agent")

    def unknown_type(self, url: str) -> None:
        """The node has requested a type that the server does not have."""
        unknown = printable(url, MAX_NODE_TEXT)
        if unknown in self._unknown or len(self._unknown) == MAX_UNKNOWN_TYPES:
            return
        self._unknown.add(unknown)
        log.warning("node %s requests unknown type %s", self._node.id, unknown)

    def rejected(self, resource_type: ResourceType) -> None:
        """The node has rejected a version of a type. A later NACK of the same version is silent."""
        state = self._node.stream.types[resource_type]
        version = state.nacked
        if version is None or self._rejected.get(resource_type) == version:
            return
        self._rejected[resource_type] = version
        log.error(
            "node %s rejected %s of version %s: %s",
            self._node.id,
            resource_type.name,
            version,
            state.reason,
        )
