"""Asks a callout worker for the present state of the breaker and the limits for one request."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from google.protobuf.message import DecodeError

from extproc.limits import RequestView
from extproc.rpc import RpcError
from extproc.transport.aio.client import ClientLimits, open_call
from protos.protection_pb2 import InspectRequest, InspectResponse
from sluice.config.limits import LimitRule
from sluice.contract.paths import INSPECT
from sluice.explain.report import BreakerReport, LimitReport
from sluice.http.client import NoAnswerError
from sluice.printable import printable
from sluice.tls import ClientCredentials

TIMEOUT = 3.0
"""Seconds for the answer of one worker."""

MAX_ANSWER = 1 << 20
"""Bytes. A config has at most 1000 rules, each with a short name."""


async def inspect(
    addresses: Sequence[str],
    credentials: ClientCredentials,
    cluster: str,
    view: RequestView,
    rules: Iterable[LimitRule],
) -> InspectResponse:
    """The answer of the first worker that answers. Raises NoAnswerError.

    Of the claims and the headers of a request, only those that the rules read are sent.
    """
    message = _request(cluster, view, rules)
    reason = "the control plane names no worker"
    for address in addresses:
        try:
            async with asyncio.timeout(TIMEOUT):
                return await _ask(address, credentials, message)
        except TimeoutError:
            reason = "no response in time"
        except RpcError as error:
            reason = error.details
        except (OSError, ValueError, DecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
    shown = ", ".join(addresses) or "the gateway"
    raise NoAnswerError(f"no worker answers at {shown}: {printable(reason, 200)}")


async def _ask(address: str, credentials: ClientCredentials, message: bytes) -> InspectResponse:
    limits = ClientLimits(max_message=MAX_ANSWER)
    call = await open_call(address, INSPECT, limits, credentials)
    try:
        call.send(message)
        answer = await call.receive()
    finally:
        call.close()
    return InspectResponse.FromString(answer or b"")


def parts(rule: LimitRule) -> Iterator[str]:
    """The properties of a request that a rule reads."""
    yield from rule.key
    yield from (match.part for match in rule.match)
    if rule.cost.header is not None:
        yield f"header:{rule.cost.header}"


def _names(rules: Iterable[LimitRule], prefix: str) -> set[str]:
    """The names of the claims or headers that the rules read."""
    found = {part for rule in rules for part in parts(rule)}
    return {part.removeprefix(prefix) for part in found if part.startswith(prefix)}


def breaker_report(answer: InspectResponse) -> BreakerReport | None:
    """The state of the breaker in an answer; None if the version has no breaker."""
    if not answer.HasField("breaker"):
        return None
    breaker = answer.breaker
    error_rate = breaker.error_rate if breaker.HasField("error_rate") else None
    return BreakerReport(breaker.state, error_rate, breaker.requests)


def limit_reports(answer: InspectResponse) -> tuple[LimitReport, ...]:
    """The states of the rules in an answer."""
    return tuple(
        LimitReport(
            rule=rule.name,
            admits=rule.admits,
            shadow=rule.shadow,
            unavailable=rule.unavailable,
            limit=rule.limit,
            remaining=rule.remaining,
            cost=rule.cost,
            retry_after=rule.retry_after,
        )
        for rule in answer.rules
    )


def _request(cluster: str, view: RequestView, rules: Iterable[LimitRule]) -> bytes:
    headers = _names(rules, "header:")
    claims = [
        InspectRequest.Claim(name=name, values=view.claims(name))
        for name in _names(rules, "claim:")
    ]
    try:
        request = InspectRequest(
            cluster=cluster,
            groups=view.groups,
            claims=claims,
            model=view.model,
            version=view.version,
            headers={name: value for name, value in view.headers.items() if name in headers},
            client_address=view.client_address,
        )
        if view.subject is not None:
            request.subject = view.subject
        if view.model_type is not None:
            request.model_type = view.model_type
        if view.body_size is not None:
            request.body_size = view.body_size
    except ValueError as error:
        raise NoAnswerError(f"the request cannot be described: {type(error).__name__}") from None
    return request.SerializeToString()
