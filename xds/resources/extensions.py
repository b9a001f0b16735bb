"""Filters whose config travels by itself (ECDS), and the place of such a filter in the listener.

Envoy reads the config of such a filter for each request, so a change takes effect on open
connections too. After a change of the listener, open connections keep their old filters until they
are drained.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import betterproto2
from envoy_data_plane.envoy.config.core.v3 import (
    ConfigSource,
    ExtensionConfigSource,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher, RouteMatch
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import (
    JwtAuthentication,
    JwtProvider,
    JwtRequirement,
    JwtRequirementOrList,
    RequirementRule,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Empty

from sluice.contract.headers import AUTHORIZATION
from sluice.contract.names import JWT_FILTER
from xds.protocol.snapshot import Resource
from xds.resources.data_plane_messages import of_protos, pack
from xds.resources.native.base64_text import spellings
from xds.resources.proto_messages import from_ads

NO_TOKENS: Final = JwtAuthentication()
"""Verifies no token and refuses no request, so that the callout decides every request."""


def jwt_filter() -> HttpFilter:
    """The place of the filter that verifies tokens for native routes.

    The listener does not wait for the filter's config, and without one no token is verified: before
    the first config, and after the TTL of the last one.
    """
    default = pack(NO_TOKENS)
    return HttpFilter(
        name=JWT_FILTER,
        config_discovery=ExtensionConfigSource(
            config_source=of_protos(ConfigSource, from_ads()),
            default_config=default,
            apply_default_config_without_warming=True,
            type_urls=[default.type_url],
        ),
    )


def common_filter(one: Resource, other: Resource) -> Resource:
    """The filter that verifies the tokens of the issuers that both filters verify alike."""
    providers, others = _providers(one), _providers(other)
    common = {name: each for name, each in providers.items() if others.get(name) == each}
    ttls = [each.ttl for each in (one, other) if each.ttl is not None]
    body = bytes(extension(JWT_FILTER, verifying(common)))
    return Resource.of(body, ttl=min(ttls, default=None))


def verifying(providers: Mapping[str, JwtProvider]) -> JwtAuthentication:
    """A config that verifies the token of any of these providers, and refuses no request.

    With several providers, a token has the provider whose issuer it contains, or none. Envoy would
    parse a token for each provider that it may have, so one large token of a client without
    credentials would take as much of its time as many.
    """
    names = list(providers)
    if len(names) == 1:
        rules = [_rule(names[0])]
    else:
        issuers = {name: provider.issuer for name, provider in providers.items()}
        with_slash = {name: issuer for name, issuer in issuers.items() if "/" in issuer}
        rules = [*_rules(issuers, _plain), *_rules(with_slash, _escaped)]
    return JwtAuthentication(providers=dict(providers), rules=rules)


def _rules(issuers: Mapping[str, str], to_json: Callable[[str], str]) -> Iterator[RequirementRule]:
    """For tokens that contain this JSON of the issuer of a provider: they have this provider."""
    for name, issuer in issuers.items():
        for text in spellings(to_json(issuer)):
            contains = StringMatcher(contains=text)
            yield _rule(name, HeaderMatcher(name=AUTHORIZATION, string_match=contains))


def _plain(issuer: str) -> str:
    return json.dumps(issuer, ensure_ascii=False)


def _escaped(issuer: str) -> str:
    """Some encoders write slashes with an escape."""
    return _plain(issuer).replace("/", r"\/")


def _rule(name: str, *conditions: HeaderMatcher) -> RequirementRule:
    """Requests with these headers may have a token of this provider."""
    requirements = [
        JwtRequirement(provider_name=name),
        JwtRequirement(allow_missing_or_failed=Empty()),
    ]
    any_token = JwtRequirement(requires_any=JwtRequirementOrList(requirements=requirements))
    match = RouteMatch(prefix="/", headers=list(conditions))
    return RequirementRule(match=match, requires=any_token)


def _providers(resource: Resource) -> Mapping[str, JwtProvider]:
    packed = TypedExtensionConfig.parse(resource.body).typed_config
    return {} if packed is None else JwtAuthentication.parse(packed.value).providers


def extension(name: str, config: betterproto2.Message) -> TypedExtensionConfig:
    """The resource with the config of a filter."""
    return TypedExtensionConfig(name=name, typed_config=pack(config))
