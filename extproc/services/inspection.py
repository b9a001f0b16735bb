"""The gRPC service that `sluice explain` asks for the present state of the breaker and the limits.

An answer has no effect on requests: no token is taken, no probe is admitted, nothing is counted.
"""

from google.protobuf.message import DecodeError

from extproc.limits import RequestView
from extproc.policy.current import CurrentPolicy
from extproc.protection import Protection
from extproc.rpc import RpcError, Services, StatusCode, unary
from protos.protection_pb2 import InspectRequest, InspectResponse
from sluice.contract.paths import INSPECT


class InspectionService:
    """Serves the state that one worker sees."""

    def __init__(self, protection: Protection, current_policy: CurrentPolicy) -> None:
        self._protection = protection
        self._current_policy = current_policy

    def services(self) -> Services:
        """The handler factory by method path, for a transport."""
        return {INSPECT: unary(self.inspect)}

    async def inspect(self, message: bytes) -> bytes:
        """Answer an InspectRequest. Raises RpcError if the message is malformed."""
        try:
            request = InspectRequest.FromString(message)
        except DecodeError:
            raise RpcError(StatusCode.INVALID_ARGUMENT, "invalid InspectRequest") from None
        breaker, rules = await self._protection.inspect(request.cluster, _view(request))
        policy = self._current_policy.current
        response = InspectResponse(policy="" if policy is None else policy.version)
        if breaker is not None:
            response.breaker.state = breaker.state.name.lower()
            response.breaker.requests = breaker.volume
            if breaker.error_rate is not None:
                response.breaker.error_rate = breaker.error_rate
        for rule in rules:
            response.rules.add(
                name=rule.name, shadow=rule.shadow, admits=rule.admits,
                unavailable=rule.unavailable, limit=rule.limit, remaining=rule.remaining,
                cost=rule.cost, retry_after=rule.retry_after,
            )  # fmt: skip
        return response.SerializeToString()


def _view(request: InspectRequest) -> RequestView:
    claims = {claim.name: frozenset(claim.values) for claim in request.claims}
    return RequestView(
        subject=request.subject if request.HasField("subject") else None,
        groups=tuple(request.groups),
        claims=lambda name: claims.get(name, frozenset()),
        model=request.model,
        version=request.version,
        model_type=request.model_type if request.HasField("model_type") else None,
        headers=dict(request.headers),
        client_address=request.client_address,
        body_size=request.body_size if request.HasField("body_size") else None,
    )
