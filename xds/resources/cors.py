"""Cross-origin requests of browsers: Envoy's CORS filter, and the check of WebSocket handshakes.

The CORS filter is the first filter. So a preflight, which has no credentials, does not reach the
callout, and refusals by all other filters get the headers of CORS: without them, a browser hides
the refusal from the page. Preflights take no tokens of limits: an answer costs Envoy no more than
the refusal by a limit.
"""

from envoy_data_plane.envoy.extensions.filters.http.cors.v3 import Cors as CorsFilter
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as RbacFilter
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from protos.base_pb2 import HeaderValueOption
from protos.http_filters_pb2 import (
    RBAC,
    CorsPolicy,
    Permission,
    Principal,
    RBACPerRoute,
    RBACPolicy,
    RBACRules,
)
from protos.matcher_pb2 import RegexMatcher, StringMatcher
from protos.route_pb2 import HeaderMatcher, Route
from sluice.config.cors import ANY, Cors, origin_expression
from sluice.contract.local_replies import ORIGIN_POLICY
from xds.resources import data_plane_messages
from xds.resources.proto_messages import boolean, header, pack

CORS = "envoy.filters.http.cors"
ORIGINS = "envoy.filters.http.rbac"

RESPONSE_HEADERS = (
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-allow-private-network",
    "access-control-expose-headers",
    "access-control-max-age",
)
"""Response headers of CORS, which only the gateway sets for a model with `cors`."""


def cors_filter() -> HttpFilter:
    """The CORS filter. Envoy omits it from requests whose route has no policy."""
    return HttpFilter(name=CORS, typed_config=data_plane_messages.pack(CorsFilter()), disabled=True)


def origin_filter() -> HttpFilter:
    """Refuses WebSocket handshakes of origins that are not allowed.

    Envoy omits the filter from requests whose route has no rules.
    """
    return HttpFilter(
        name=ORIGINS, typed_config=data_plane_messages.pack(RbacFilter()), disabled=True
    )


def allow_origins(route: Route, cors: Cors | None, methods: tuple[str, ...]) -> None:
    """Add the policy to a route. `methods` are those of the model.

    Nothing is set on the virtual host: Envoy takes a setting that is empty on the route from there.
    """
    if cors is None:
        return
    origins = [_origin(each) for each in cors.origins]
    route.typed_per_filter_config[ORIGINS].CopyFrom(pack(_only_from(origins)))
    if origins:
        route.typed_per_filter_config[CORS].CopyFrom(pack(_policy(cors, origins, methods)))
    # The route changes the response before the CORS filter does.
    route.response_headers_to_remove.extend(RESPONSE_HEADERS)
    route.response_headers_to_add.append(
        header("vary", "origin", HeaderValueOption.APPEND_IF_EXISTS_OR_ADD)
    )


def _policy(cors: Cors, origins: list[StringMatcher], methods: tuple[str, ...]) -> CorsPolicy:
    allowed = ("GET", "HEAD", *methods) if cors.methods is None else cors.methods
    return CorsPolicy(
        allow_origin_string_match=origins,
        allow_methods=_list(allowed),
        allow_headers=_list(cors.headers),
        expose_headers=_list(cors.expose_headers),
        max_age=str(round(cors.max_age)),
        allow_credentials=boolean(cors.credentials),
    )


def _list(values: tuple[str, ...]) -> str:
    return ", ".join(dict.fromkeys(values))


def _origin(origin: str) -> StringMatcher:
    """Matches the whole value of `Origin`."""
    regex = origin_expression(origin)
    if regex is None:
        return StringMatcher(exact=origin)
    return StringMatcher(safe_regex=RegexMatcher(regex=regex))


def _only_from(origins: list[StringMatcher]) -> RBACPerRoute:
    """Denies an upgrade with an `Origin` that no matcher allows."""
    if any(each.exact == ANY for each in origins):
        return RBACPerRoute(rbac=RBAC())
    conditions = [
        Permission(header=_header("upgrade")),
        Permission(header=_header("origin")),
        *(Permission(not_rule=Permission(header=_header("origin", each))) for each in origins),
    ]
    foreign = RBACPolicy(
        permissions=[Permission(and_rules=Permission.Set(rules=conditions))],
        principals=[Principal(any=True)],
    )
    rules = RBACRules(action=RBACRules.DENY, policies={ORIGIN_POLICY: foreign})
    return RBACPerRoute(rbac=RBAC(rules=rules))


def _header(name: str, value: StringMatcher | None = None) -> HeaderMatcher:
    if value is None:
        return HeaderMatcher(name=name, present_match=True)
    return HeaderMatcher(name=name, string_match=value)
