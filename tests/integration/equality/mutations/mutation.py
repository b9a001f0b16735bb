"""Every mutation of the compiled resources, and the resources that serve many mutants at once."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from protos.route_pb2 import RouteConfiguration, VirtualHost
from sluice.contract import names
from tests.integration.equality.mutations import token_filter
from tests.integration.equality.mutations.matchers import of_matcher
from tests.integration.equality.mutations.omission import Picks, copied, picks
from tests.integration.equality.mutations.token_filter import ProviderOmission
from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import Resource, Resources
from xds.protocol.wire import field
from xds.resources.proto_messages import serialized

Types = Mapping[ResourceType, Resources]

_VIRTUAL_HOSTS = 2
"""Field number of RouteConfiguration.virtual_hosts."""

_REMOVED = 13
"""Field number of VirtualHost.request_headers_to_remove."""


@dataclass(frozen=True, slots=True, eq=False)
class Mutation:
    """One change. `name` says what is left out, and where.

    `inputs`, `picks`, `path` and `off`: as in `Omission`. `host` is the virtual host with the
    change, whose requests lose the headers `removed`. `provider` is the change of the token filter,
    if it is one.
    """

    name: str
    inputs: frozenset[str]
    picks: Picks
    host: VirtualHost
    removed: Sequence[str]
    path: str = ""
    off: bool = False
    provider: ProviderOmission | None = None

    @property
    def kind(self) -> tuple[str, ...]:
        """What is left out, without the model, the version and the route that it belongs to."""
        *steps, what = self.name.split(" > ")
        if any(step.startswith("route ") for step in steps):
            # All routes to one version are built in one way, and all weighted routes are.
            weighted = any("/" in each for each, _ in sorted(self.picks)[1:])
            return str(weighted), _anonymous(what)
        start = max((at for at, step in enumerate(steps) if step.startswith(":path")), default=-1)
        inner = (step for step in steps[start + 1 :] if step != "otherwise")
        return tuple(map(_anonymous, (*inner, what)))


_NAMES: Final = re.compile(
    r"(?<=/v2/models/)[a-z]+(?=/)|\b[a-z]+/v\d+|\bv\d+\b|native\.\S+|weight \d+"
)
"""Names of models, versions and weights in the name of a mutation."""


def _anonymous(step: str) -> str:
    return _NAMES.sub("NAME", step)


def mutations(types: Types) -> Iterator[Mutation]:
    """Every mutation of the resources, each alone."""
    table = _table(types)
    (host,) = table.virtual_hosts
    removed = list(table.request_headers_to_remove)
    for each in of_matcher(host.matcher):
        changed = copied(host)
        changed.matcher.CopyFrom(each.message)
        yield Mutation(each.name, each.inputs, each.picks, changed, removed, each.path, each.off)
    every = picks(host.matcher)
    for name in removed:
        rest = [each for each in removed if each != name]
        yield Mutation(f"removes {name}", frozenset((name,)), every, host, rest)
    for omission in token_filter.omissions(types[resource_types.EXTENSION][names.JWT_FILTER]):
        name = f"token filter > {omission.issuer} > {omission.what}"
        read = frozenset((omission.read,))
        yield Mutation(name, read, every, host, removed, provider=omission)


def distinct(found: Iterable[Mutation]) -> list[Mutation]:
    """One of the mutations that leave out the same thing of several models or versions."""
    kinds: dict[tuple[str, ...], Mutation] = {}
    for each in found:
        kinds.setdefault(each.kind, each)
    return list(kinds.values())


def authority(number: int) -> str:
    """The host of a mutant, by its number."""
    return f"mutant-{number}.test"


def serving(types: Types, mutants: Iterable[tuple[int, Mutation]]) -> Types:
    """The resources, with a virtual host for each mutant."""
    table = _table(types)
    (host,) = table.virtual_hosts
    removed = list(table.request_headers_to_remove)
    del table.virtual_hosts[:], table.request_headers_to_remove[:]
    parts = [serialized(table), *_host(host, removed)]
    provided: dict[str, ProviderOmission] = {}
    for number, mutation in mutants:
        name = authority(number)
        changed = copied(mutation.host)
        changed.name = name
        changed.domains[:] = [name]
        if mutation.provider is not None:
            provided[name] = mutation.provider
        parts += _host(changed, mutation.removed)
    extensions = types[resource_types.EXTENSION]
    verified = token_filter.with_mutants(extensions[names.JWT_FILTER], provided)
    return {
        **types,
        resource_types.ROUTE: {names.ROUTE_CONFIGURATION: Resource.of(*parts)},
        resource_types.EXTENSION: {**extensions, names.JWT_FILTER: verified},
    }


def _table(types: Types) -> RouteConfiguration:
    resource = types[resource_types.ROUTE][names.ROUTE_CONFIGURATION]
    return RouteConfiguration.FromString(resource.body)


def _host(host: VirtualHost, removed: Sequence[str]) -> list[bytes]:
    fields = [part for name in removed for part in field(_REMOVED, name.encode())]
    return field(_VIRTUAL_HOSTS, serialized(host), *fields)
