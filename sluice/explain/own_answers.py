"""What Envoy answers to a request by itself, without the callout: preflights, health and metadata.

Envoy takes the model from the path, because there is no decision yet. See `xds.resources.cors` and
`xds.resources.server_status`.
"""

from dataclasses import dataclass

from sluice.config import Model, PolicyDocument
from sluice.config.cors import Cors
from sluice.contract.headers import MODEL_NAME
from sluice.contract.paths import LIVE, OIP_GRPC_PREFIX, READY, SERVER_METADATA
from sluice.contract.reasons import Reason
from sluice.explain.request import HttpRequest


@dataclass(frozen=True, slots=True)
class OwnAnswer:
    """An answer of Envoy with a status of success. `certain` is False if it may be an error."""

    reason: Reason
    explanation: str
    certain: bool = True


def own_answer(document: PolicyDocument, request: HttpRequest, path: str) -> OwnAnswer | None:
    """Envoy's own answer; None if the callout decides. `path` is normalized and has no query."""
    model = _model(document, request, path)
    cors, origin = _cors(document, model), _first(request, "origin")
    asks_for_method = _first(request, "access-control-request-method")
    preflight = request.method == "OPTIONS" and origin and asks_for_method
    if preflight and cors is not None and cors.allows(origin):
        text = f"Envoy answers the preflight, because cors allows the origin {origin}"
        return OwnAnswer(Reason.CORS_PREFLIGHT, text)
    if model is not None:
        return None
    if path == READY:
        text = "Envoy answers: 200 if a worker is healthy, else 503 not_ready"
        return OwnAnswer(Reason.GATEWAY_STATUS, text, certain=False)
    if path in (LIVE, SERVER_METADATA):
        what = "that it is live" if path == LIVE else "with the metadata of the gateway"
        return OwnAnswer(Reason.GATEWAY_STATUS, f"Envoy answers {what}")
    return None


def refuses_origin(document: PolicyDocument, request: HttpRequest, path: str) -> bool:
    """Whether Envoy refuses a WebSocket handshake because of its origin."""
    model = _model(document, request, path)
    cors, origin = _cors(document, model), _first(request, "origin")
    handshake = _first(request, "upgrade") and model is not None and model.websocket
    return bool(handshake and origin and cors is not None and not cors.allows(origin))


def _model(document: PolicyDocument, request: HttpRequest, path: str) -> Model | None:
    """The model whose route Envoy takes before the decision."""
    named = {each: m for name, m in document.models.items() for each in m.prefixes(name)}
    above = [each for each in named if path == each or path.startswith(f"{each}/")]
    if above:
        return named[max(above, key=len)]
    if path.startswith(OIP_GRPC_PREFIX):
        return document.models.get(_first(request, MODEL_NAME))
    return None


def _cors(document: PolicyDocument, model: Model | None) -> Cors | None:
    return document.requests.cors if model is None else document.requests.cors_of(model)


def _first(request: HttpRequest, name: str) -> str:
    """The first value of a header; empty if the request does not have it."""
    return next((value.decode("latin-1") for key, value in request.headers if key == name), "")
