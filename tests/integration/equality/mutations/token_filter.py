"""Leaves out each setting of the token filter, for one issuer at a time."""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

from envoy_data_plane.envoy.config.core.v3 import DataSource, TypedExtensionConfig
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import (
    JwtAuthentication,
    JwtProvider,
    JwtRequirement,
    RequirementRule,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from sluice.contract.names import JWT_FILTER
from xds.protocol.snapshot import Resource
from xds.resources.extensions import extension

TOKEN: Final = "authorization"
"""The header that the filter reads."""

_LARGE_SKEW: Final = 100_000
"""Seconds: with it, every expired token of the test is valid."""

_UNSET: Final = JwtProvider()

_OTHERWISE: Final = ("local_jwks", "clock_skew_seconds")
"""Settings that are changed in another way. Without them, there are no keys, or a long skew."""


@dataclass(frozen=True, slots=True)
class ProviderOmission:
    """`provider` lacks `what`, which concerns the header `read`."""

    issuer: str
    what: str
    read: str
    provider: JwtProvider


def providers(resource: Resource) -> Mapping[str, JwtProvider]:
    """The providers of the filter."""
    return _config(resource).providers


def omissions(resource: Resource) -> Iterator[ProviderOmission]:
    """Every setting of every provider."""
    for issuer, provider in sorted(providers(resource).items()):
        for what, read, changed in _without_each(provider):
            yield ProviderOmission(issuer, what, read, changed)


def _without_each(provider: JwtProvider) -> Iterator[tuple[str, str, JwtProvider]]:
    for each in fields(JwtProvider):
        value, unset = getattr(provider, each.name), getattr(_UNSET, each.name)
        if value == unset or each.name in _OTHERWISE:
            continue
        if not isinstance(value, list):
            yield each.name, TOKEN, replace(provider, **{each.name: unset})
            continue
        for index, item in enumerate(value):
            rest = [*value[:index], *value[index + 1 :]]
            header = getattr(item, "header_name", "")
            what = f"{each.name} {header or index}"
            yield what, header or TOKEN, replace(provider, **{each.name: rest})
    yield "expiry", TOKEN, replace(provider, clock_skew_seconds=_LARGE_SKEW)
    yield from _without_algorithms(provider)


def _without_algorithms(provider: JwtProvider) -> Iterator[tuple[str, str, JwtProvider]]:
    assert provider.local_jwks is not None
    keys = json.loads(provider.local_jwks.inline_string or "")["keys"]
    for index in range(len(keys)):
        changed = [dict(key) for key in keys]
        algorithm = changed[index].pop("alg")
        key_set = DataSource(inline_string=json.dumps({"keys": changed}))
        yield f"alg {algorithm} of key {index}", TOKEN, replace(provider, local_jwks=key_set)


def with_mutants(resource: Resource, mutants: Mapping[str, ProviderOmission]) -> Resource:
    """The filter with the mutants by the hosts of their requests.

    Each has the rules of the filter, for its host and with its provider.
    """
    config = _config(resource)
    own = [
        _rule(rule, host, mutant.issuer)
        for host, mutant in mutants.items()
        for rule in config.rules
    ]
    changed = replace(
        config,
        providers={**config.providers, **{host: each.provider for host, each in mutants.items()}},
        rules=[*own, *config.rules],
    )
    return Resource.of(bytes(extension(JWT_FILTER, changed)), ttl=resource.ttl)


def _rule(rule: RequirementRule, host: str, issuer: str) -> RequirementRule:
    """The rule for requests to a host, with the provider of this name instead of the issuer's."""
    changed = copy.deepcopy(rule)
    assert changed.match is not None
    exact = StringMatcher(exact=host)
    changed.match.headers.append(HeaderMatcher(name=":authority", string_match=exact))
    for each in _requirements(changed.requires):
        if each.provider_name == issuer:
            each.provider_name = host
    return changed


def _requirements(requirement: JwtRequirement | None) -> Iterator[JwtRequirement]:
    """The requirement, and those of which it consists."""
    if requirement is not None:
        yield requirement
        for listed in (requirement.requires_any, requirement.requires_all):
            for each in () if listed is None else listed.requirements:
                yield from _requirements(each)


def _config(resource: Resource) -> JwtAuthentication:
    packed = TypedExtensionConfig.parse(resource.body).typed_config
    assert packed is not None
    return JwtAuthentication.parse(packed.value)
