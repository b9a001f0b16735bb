"""The rules of the incremental variant of the xDS protocol, on one stream, without I/O.

A response carries the resources that have changed, the names of those that are gone, and a nonce. A
client subscribes to names and unsubscribes from names, and acknowledges a response by its nonce.
Changes of a subscription count also in a request with an old nonce, because no later request
repeats them.

The state of a client refers to the `ResourceSet` that it has, instead of a version for each
resource. So a thousand clients share the resources, their differences and their serialized
responses.

A client that reconnects keeps the clusters, endpoints and secrets that are gone, until it and
all workers have what refers to the present ones (`remove_kept`). In the same way, a client waits
for a cluster that it requests by its name and that does not exist yet.

At most one response of a type is outstanding. After a NACK, the next version carries the resources
of the rejected response again, changed or not: the client may use all of them, some or none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType
from xds.protocol.shared_names import SHARED, OverLimitError, SharedNames, Versions
from xds.protocol.snapshot import NO_CHANGES, Changes, ResourceSet, Snapshot, TypeVersion
from xds.protocol.stream import (
    KEEP,
    SENDS_IN_TTL,
    Acknowledgement,
    ResourceState,
    Stream,
    TypeState,
)
from xds.protocol.subscription import MAX_NAMES, WILDCARD, Subscription

AWAIT: Final = 2.0
"""Seconds for which a client waits for a cluster that does not exist. An Envoy that holds a request
waits for a shorter time (`xds.resources.awaited_clusters.TIMEOUT`)."""

_DEPENDENTS: Mapping[ResourceType, ResourceType] = {
    each.referrer: each for each in resource_types.ALL if each.warms_referrer and each.referrer
}
"""The type that warms the resources of another one, by that type."""


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """A DeltaDiscoveryRequest. `error` is `error_detail.message`; None without `error_detail`.

    `versions`: `initial_resource_versions`, what the client has from an earlier stream.
    """

    type: ResourceType
    subscribe: Sequence[str] = ()
    unsubscribe: Sequence[str] = ()
    nonce: str = ""
    error: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeltaResponse:
    """A DeltaDiscoveryResponse to send."""

    type: ResourceType
    version: TypeVersion
    nonce: str
    changes: Changes


@dataclass(slots=True)
class _Known:
    """What a client knows of one type.

    `resources`: the set of which it has every subscribed resource, apart from `rejected`. None
    before the first response; `versions` are then those of an earlier stream.
    `told`: names whose state must be sent even if it has not changed (`*`: all of them).
    `kept`: names of an earlier stream that are gone, and of clusters that are awaited, of which the
    client has not been told yet. `waited`: those of which it must be told now.
    `last`: the outstanding response. `rejected`: names in the responses that it has rejected.
    `counted`: the names in `last` that are those of the client. They count as long as it has them.
    """

    versions: Versions
    resources: ResourceSet | None = None
    told: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    waited: frozenset[str] = frozenset()
    last: Changes = NO_CHANGES
    rejected: frozenset[str] = frozenset()
    counted: tuple[frozenset[str] | Versions, ...] = ()


@dataclass(slots=True)
class DeltaStream(Stream):
    """One client's stream. `shared` bounds the memory of names."""

    _known: dict[ResourceType, _Known] = field(default_factory=dict)
    _responses: int = 0
    _warming: dict[ResourceType, frozenset[str]] = field(default_factory=dict)
    """Names that warm resources sent on this stream, of types not subscribed to yet."""
    shared: SharedNames = field(default=SHARED, repr=False, compare=False)

    def on_request(self, request: DeltaRequest, now: float) -> Acknowledgement:
        """Process a request. Raises OverLimitError if the request exceeds a limit."""
        state = self.types.get(request.type)
        if state is None:
            self._subscribe(request)
            return Acknowledgement.NONE
        known, acknowledgement = self._known[request.type], Acknowledgement.NONE
        if state.outstanding and request.nonce == state.nonce:
            acknowledgement = _acknowledge(state, known, request.error, now)
            known.rejected = self._checked(known.rejected)
        told = state.subscription.change(request.subscribe, request.unsubscribe)
        known.told = self._checked(known.told | told)
        state.due = state.due or bool(known.told)
        return acknowledgement

    def _subscribe(self, request: DeltaRequest) -> None:
        """Process the first request of a type."""
        if len(request.versions) > MAX_NAMES:
            raise OverLimitError(f"more than {MAX_NAMES} resource versions in one request")
        subscription = Subscription(request.type, shared=self.shared)
        subscription.begin(request.subscribe, request.unsubscribe)
        versions = Versions()
        warming = self._warming.pop(request.type, frozenset())
        if not self._warms_unknown(request.type):
            versions = self.shared.versions(
                {name: each for name, each in request.versions.items() if name not in warming}
            )
        self.types[request.type] = TypeState(subscription)
        self._known[request.type] = _Known(versions)

    def _checked(self, names: frozenset[str]) -> frozenset[str]:
        """The names, shared. Raises OverLimitError for too many, from many requests."""
        if len(names) > MAX_NAMES:
            raise OverLimitError(f"more than {MAX_NAMES} resource names to tell")
        return self.shared.of_client(names)

    def _warms_unknown(self, resource_type: ResourceType) -> bool:
        """Whether resources of the client may be warming that this stream does not know.

        Envoy does not request clusters again while one is warming. With its endpoints of an earlier
        stream, it would warm for ever (https://github.com/envoyproxy/envoy/issues/36951).
        """
        return (
            self.aggregated
            and resource_type.warms_referrer
            and resource_type.referrer not in self.types
        )

    def responses(self, snapshot: Snapshot, clock: float) -> Iterator[DeltaResponse]:
        """The responses that are due, in push order. Taking a response records it as sent.

        `clock`: monotonic seconds. A new version that changes nothing for the client is recorded as
        accepted.
        """
        for resource_type in resource_types.ALL:
            state = self.types.get(resource_type)
            if state is None or state.outstanding or not snapshot.types[resource_type].published:
                continue
            if not self._has_turn(state, snapshot):
                continue
            resources = snapshot.types[resource_type]
            self._keep(state, resources, clock)
            self._await(state, resources, clock)
            changes = _due(state, self._known[resource_type], resources)
            renewal = changes is None and state.must_renew(clock)
            if renewal:
                changes = Changes(state.subscription.select(resources.expiring))
            if changes is not None:
                yield self._send(state, snapshot, changes, clock, renewal=renewal)
            elif state.sent != resources.version or state.due:
                _record(state, self._known[resource_type], resources)
                _set_timer(state, resources, clock)
                state.accept()

    def _keep(self, state: TypeState, resources: ResourceSet, clock: float) -> None:
        """Let the client keep what it has of an earlier stream and others may still refer to."""
        known = self._known[state.subscription.type]
        if known.resources is not None or not state.subscription.type.make_before_break:
            return
        gone = frozenset(known.versions).difference(resources.resources, known.told)
        known.kept = self.shared.of_client(frozenset(filter(state.subscription.includes, gone)))
        if known.kept:
            self.removes_at = clock + KEEP

    def _await(self, state: TypeState, resources: ResourceSet, clock: float) -> None:
        """Let a client of a type's own service wait for a cluster that it requests by its name.

        Envoy requests the cluster of a decision that it does not have (on-demand CDS). The worker
        may be connected to another control plane, which has the config a moment earlier: Envoy
        would refuse the request if it was told at once that there is no such cluster.
        """
        resource_type = state.subscription.type
        if self.aggregated or resource_type is not resource_types.CLUSTER:
            return
        known = self._known[resource_type]
        asked = state.subscription.names if known.resources is None else known.told
        missing = asked - resources.names - known.waited - {WILDCARD}
        known.kept = self.shared.of_client((known.kept | missing) - resources.names)
        known.told = self.shared.of_client(known.told - missing)
        if missing:
            self.removes_at = max(self.removes_at or 0.0, clock + AWAIT)

    def remove_kept(self) -> None:
        """Remove what the client keeps of an earlier stream. The removal is then due."""
        self.removes_at = None
        for resource_type, known in self._known.items():
            if known.kept:
                known.told = self._checked(known.told | known.kept)
                known.waited, known.kept = known.kept, frozenset()
                self.types[resource_type].due = True

    def _has_turn(self, state: TypeState, snapshot: Snapshot) -> bool:
        """Whether the referrer's update has been sent, or the client waits for this response."""
        resource_type = state.subscription.type
        referrer = resource_type.referrer
        if state.due or not resource_type.after_referrer or referrer is None:
            return True
        if referrer not in self.types:
            return True
        return self.types[referrer].sent == snapshot.types[referrer].version

    def _send(
        self,
        state: TypeState,
        snapshot: Snapshot,
        changes: Changes,
        clock: float,
        *,
        renewal: bool,
    ) -> DeltaResponse:
        resource_type = state.subscription.type
        resources, known = snapshot.types[resource_type], self._known[resource_type]
        if not renewal:
            self._warm(resource_type, changes, snapshot)
        if changes.removed:
            known.counted = (state.subscription.names, known.told, known.versions)
        _record(state, known, resources)
        _set_timer(state, resources, clock, renewal=renewal)
        self._responses += 1
        state.nonce, state.outstanding, state.renewal = str(self._responses), True, renewal
        known.last = changes
        return DeltaResponse(resource_type, resources.version, state.nonce, changes)

    def _warm(self, resource_type: ResourceType, changes: Changes, snapshot: Snapshot) -> None:
        """Let the resources follow that changed resources of their referrer wait for."""
        dependent = _DEPENDENTS.get(resource_type)
        if dependent is None:
            return
        state = self.types.get(dependent)
        if state is None:
            warming = self._warming.get(dependent, frozenset())
            self._warming[dependent] = SHARED.of_snapshot(warming.union(changes.resources))
            return
        # Names that the client has not subscribed to yet follow when it does.
        names, resources = state.subscription.names, snapshot.types[dependent].resources
        waiting = {name for name in changes.resources if name in names and name in resources}
        self._known[dependent].told |= waiting
        state.due = state.due or bool(waiting)

    def _resource_state(
        self, state: TypeState, name: str, resources: ResourceSet
    ) -> tuple[str, ResourceState]:
        known, version = self._known[state.subscription.type], resources.resources[name]
        text = version.version_text
        if name in known.rejected:
            return text, ResourceState.NACKED
        if state.outstanding and name in known.last.resources:
            return text, ResourceState.SENT
        has = None if known.resources is None else known.resources.resources.get(name)
        same = has is not None and has.version == version.version
        return text, ResourceState.ACKED if same else ResourceState.NOT_SENT

    def _has_accepted(self, state: TypeState, snapshot: Snapshot) -> bool:
        resource_type = state.subscription.type
        resources, known = snapshot.types[resource_type], self._known[resource_type]
        if state.acked == resources.version:
            return True
        return (
            state.nacked is None
            and known.resources is not None
            and not _due(state, known, resources)
        )


def _acknowledge(state: TypeState, known: _Known, error: str | None, now: float) -> Acknowledgement:
    """Record an ACK or a NACK of the outstanding response."""
    last, known.last, known.counted = known.last, NO_CHANGES, ()
    if error is not None:
        known.rejected = known.rejected.union(last.resources, last.removed)
    elif known.rejected:
        # An earlier response of the same version stays rejected.
        state.outstanding, state.at = False, now
        return Acknowledgement.ACK
    return state.acknowledge(error, now)


def _due(state: TypeState, known: _Known, resources: ResourceSet) -> Changes | None:
    """What must be sent; None if nothing. It may be empty: a client waits for a first response."""
    subscription = state.subscription
    if known.resources is None:
        if WILDCARD in known.told:
            return _first(subscription, {}, resources)
        left = known.told | known.kept
        versions = {name: each for name, each in known.versions.items() if name not in left}
        return _first(subscription, versions, resources, known.kept)
    since = resources.changes_since(known.resources)
    if WILDCARD in known.told:
        everything = resources.everything.select(subscription).resources
        # The client may still have what it did not let go.
        gone = known.rejected - resources.names
        removed = dict.fromkeys((*since.select(subscription).removed, *sorted(gone)))
        return Changes(everything, tuple(removed))
    changes, names = since.select(subscription), set(filter(subscription.includes, known.told))
    if state.nacked != resources.version:
        names.update(filter(subscription.includes, known.rejected))
    if not names:
        return changes or None
    named = resources.named(frozenset(names))
    return named | changes if changes else named


def _first(
    subscription: Subscription,
    versions: Mapping[str, str],
    resources: ResourceSet,
    kept: frozenset[str] = frozenset(),
) -> Changes | None:
    """The first response of a type; None if the client has everything from an earlier stream.

    `kept`: names without a resource that the client keeps.
    """
    selected = resources.everything.select(subscription).resources
    removed = subscription.names - resources.names - kept
    if not versions and not removed:
        changes = resources.everything.select(subscription)
    else:
        # A resource with a TTL may end at any time.
        changed = {
            name: resource
            for name, resource in selected.items()
            if versions.get(name) != resource.version_text or resource.ttl is not None
        }
        gone = (name for name in versions if name not in resources.resources)
        changes = Changes(changed, tuple(removed.union(filter(subscription.includes, gone))))
    # Without a response, Envoy waits when there are no clusters.
    return changes if changes or (subscription.wildcard and not versions) else None


def _record(state: TypeState, known: _Known, resources: ResourceSet) -> None:
    """Record that the client has these resources, apart from what a response carries or carried."""
    if state.nacked != resources.version:
        known.rejected = frozenset()
    known.resources, known.versions = resources, Versions()
    known.told = known.waited = frozenset()
    state.sent, state.due = resources.version, False


def _set_timer(
    state: TypeState, resources: ResourceSet, clock: float, *, renewal: bool = False
) -> None:
    """Set when the resources with a TTL must be sent again."""
    ttls = [each.ttl for each in state.subscription.select(resources.expiring).values() if each.ttl]
    if not ttls:
        state.renew_at = None
        return
    at = clock + min(ttls) / SENDS_IN_TTL
    state.renew_at = at if renewal or state.renew_at is None else min(at, state.renew_at)
