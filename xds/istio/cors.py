"""Web pages of other origins (CORS): the policies of routes, which the Envoys of a mesh apply.

A preflight has no credentials and no decision, so the route that refuses undecided requests has the
policy too. Its answer comes before the callout, and refusals get the headers of CORS.
"""

from google.protobuf.wrappers_pb2 import BoolValue

from protos.istio_networking_pb2 import CorsPolicy, StringMatch
from sluice.config.cors import Cors, origin_expression
from xds.resources.proto_messages import seconds


def cors_policy(cors: Cors | None, methods: tuple[str, ...]) -> CorsPolicy | None:
    """The policy of a route. `methods` are those of the model. None: no page may call it."""
    if cors is None or not cors.origins:
        return None
    allowed = ("GET", "HEAD", *methods) if cors.methods is None else cors.methods
    return CorsPolicy(
        allow_origins=[_origin(each) for each in cors.origins],
        allow_methods=dict.fromkeys(allowed),
        allow_headers=dict.fromkeys(cors.headers),
        expose_headers=dict.fromkeys(cors.expose_headers),
        max_age=seconds(round(cors.max_age)),
        allow_credentials=BoolValue(value=cors.credentials),
    )


def _origin(origin: str) -> StringMatch:
    """Matches the whole value of `Origin`."""
    regex = origin_expression(origin)
    return StringMatch(exact=origin) if regex is None else StringMatch(regex=regex)
