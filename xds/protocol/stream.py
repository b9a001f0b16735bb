"""The state of a client's stream: what the client has subscribed to, accepted and rejected.

Every variant of the xDS protocol has this state. `sotw` and `delta` have the rules of one each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from sluice.printable import printable
from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import ResourceSet, Snapshot, TypeVersion
from xds.protocol.subscription import Subscription

MAX_REASON = 4096
"""Characters of a NACK's reason that are kept: Envoy names every resource that it rejects."""

SENDS_IN_TTL = 3
"""How often a resource is sent within its TTL, so that a late response does not end it."""


KEEP = 5.0
"""Seconds for which a client that reconnects keeps clusters that the config has no longer. In this
time, it gets its new routes, and every worker has connected again and has its new policy."""


class Acknowledgement(Enum):
    """Whether a request accepts (ACK) or rejects (NACK) the last response, or neither (NONE)."""

    NONE = "none"
    ACK = "ack"
    NACK = "nack"


class ResourceState(Enum):
    """What a client has of a resource to which it has subscribed.

    `ABSENT`: there is no such resource. `NOT_SENT`: the present version has not been sent yet.
    `SENT`: the client has sent neither an ACK nor a NACK of it yet.
    """

    ABSENT = "absent"
    NOT_SENT = "not_sent"
    SENT = "sent"
    ACKED = "acked"
    NACKED = "nacked"


@dataclass(slots=True)
class TypeState:
    """The state of one resource type on a stream: the versions sent, accepted and rejected last.

    `nacked` and `reason` are None after an ACK. `at` is the time of the last ACK or NACK, in
    seconds. `outstanding`: the client has sent neither an ACK nor a NACK of the last response yet.
    `due`: a response must be sent even if the version has been sent already.

    `renew_at`: monotonic seconds at which the resources must be sent again, because they have a
    TTL; None if none has. `renewal`: the last response was sent for this reason only.
    """

    subscription: Subscription
    nonce: str = ""
    sent: TypeVersion | None = None
    acked: TypeVersion | None = None
    nacked: TypeVersion | None = None
    reason: str | None = None
    at: float | None = None
    outstanding: bool = False
    due: bool = True
    renew_at: float | None = None
    renewal: bool = False

    def must_renew(self, clock: float) -> bool:
        """Whether resources must be sent again now because of their TTL."""
        return not self.outstanding and self.renew_at is not None and clock >= self.renew_at

    def accept(self) -> None:
        """Record that the client needs no response to have the version that was sent last."""
        self.acked, self.nacked, self.reason = self.sent, None, None

    def acknowledge(self, error: str | None, now: float) -> Acknowledgement:
        """Record an ACK (no error) or a NACK of the last response."""
        self.outstanding, self.at = False, now
        if error is None:
            self.accept()
            return Acknowledgement.ACK
        self.nacked, self.reason = self.sent, printable(error, MAX_REASON) or "no reason given"
        return Acknowledgement.NACK


@dataclass(slots=True)
class Stream:
    """The state of one client's stream, by resource type.

    `aggregated`: the stream may have several types. Otherwise it is that of a type's own service,
    and the client has other streams for the types that the resources refer to.

    `removes_at`: monotonic seconds at which resources of an earlier stream may be removed that the
    client must keep meanwhile; None if it keeps none.
    """

    aggregated: bool = True
    types: dict[ResourceType, TypeState] = field(default_factory=dict)
    removes_at: float | None = None

    @property
    def renew_at(self) -> float | None:
        """Monotonic seconds at which the next response may be due by itself; None if none is.

        A type whose last response the client has not acknowledged waits for the acknowledgement.
        """
        times = [
            state.renew_at
            for state in self.types.values()
            if state.renew_at is not None and not state.outstanding
        ]
        if self.removes_at is not None:
            times.append(self.removes_at)
        return min(times, default=None)

    def remove_kept(self) -> None:
        """Remove what the client keeps of an earlier stream. The removal is then due."""
        self.removes_at = None

    def in_sync(
        self, snapshot: Snapshot, types: Sequence[ResourceType] = resource_types.ALL
    ) -> bool:
        """Whether the client has accepted these types of a snapshot."""
        return all(self._in_sync(each, snapshot) for each in types)

    def resource_states(
        self, resource_type: ResourceType, snapshot: Snapshot
    ) -> Iterator[tuple[str, str, ResourceState]]:
        """The name, the version on the wire and the state of each subscribed resource of a type."""
        state, resources = self.types[resource_type], snapshot.types[resource_type]
        for name in state.subscription.select(resources.resources):
            yield name, *self._resource_state(state, name, resources)
        for name in sorted(state.subscription.names - resources.names):
            yield name, "", ResourceState.ABSENT

    def _resource_state(
        self, state: TypeState, name: str, resources: ResourceSet
    ) -> tuple[str, ResourceState]:
        """The version and the state of a resource that exists."""
        raise NotImplementedError

    def _in_sync(self, resource_type: ResourceType, snapshot: Snapshot) -> bool:
        if not snapshot.types[resource_type].published:
            return True
        if self.aggregated and self._must_subscribe(resource_type, snapshot):
            return False
        state = self.types.get(resource_type)
        if state is None or state.subscription.empty:
            return True
        return (
            (state.renewal or not state.outstanding)
            and not state.due
            and self._has_accepted(state, snapshot)
        )

    def _has_accepted(self, state: TypeState, snapshot: Snapshot) -> bool:
        return state.acked == snapshot.types[state.subscription.type].version

    def _must_subscribe(self, resource_type: ResourceType, snapshot: Snapshot) -> bool:
        """Whether the client has subscribed to the referrer, but not to each of these resources."""
        referrer = resource_type.referrer
        if referrer is None or referrer not in self.types or not snapshot.types[referrer].resources:
            return False
        names = snapshot.types[resource_type].names
        if not names:
            return False
        state = self.types.get(resource_type)
        return state is None or not state.subscription.includes_all(names)

    def _waits_for_referrer(self, resource_type: ResourceType, snapshot: Snapshot) -> bool:
        """Whether an update waits until the client has sent an ACK or NACK of the referrer.

        A response that the client has requested never waits: Envoy accepts new clusters only after
        it has received their endpoints.
        """
        if not resource_type.after_referrer or resource_type.referrer is None:
            return False
        referrer = self.types.get(resource_type.referrer)
        if referrer is None:
            return False
        version = snapshot.types[resource_type.referrer].version
        return referrer.outstanding or referrer.sent != version
