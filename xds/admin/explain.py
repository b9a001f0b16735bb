"""The operation that explains the decision on a request.

The explanation runs the code of the callout, which this package does not import. The process that
starts the control plane passes an explainer.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from sluice.config import PolicyDocument
from sluice.config.addresses import is_ip, reachable
from sluice.tls import ClientCredentials
from xds.admin.access import Role
from xds.admin.api.operations import JSON, Body, Call, Input, Operation
from xds.admin.api.problems import ProblemError, Reason
from xds.state import ControlPlaneState


class ExplainInput(Input):
    """A request of a client, as the gateway would receive it. It is not sent.

    `path` includes the query. `headers` are those of the client; a value may be a list. The body is
    given as text (`body`) or in Base64 (`body_base64`); without it, stages that need it are
    `unknown`. `client_address` counts for limits.
    """

    method: str = Field("GET", pattern=r"^[A-Za-z]{1,32}$")
    path: str = Field(pattern=r"^/[!-~]*$", max_length=8192)
    authority: str = Field("", pattern=r"^[!-~]*$", max_length=512)
    headers: dict[str, str | list[str]] = Field(default_factory=dict, max_length=1000)
    body: str | None = None
    body_base64: str | None = None
    client_address: str | None = None


class ExplainedStage(BaseModel):
    """One stage. `answer`: Envoy answers by itself. `unknown`: the stage could not be evaluated.

    `skip`: the stage is not evaluated here, or the request was refused or answered before it.
    """

    stage: str
    result: Literal["pass", "refuse", "answer", "unknown", "skip"]
    explanation: str


class ExplainedDecision(BaseModel):
    """The outcome: a version of a model, or the status with which the gateway answers."""

    admitted: bool
    reason: str
    status: int | None
    detail: str | None
    model: str | None
    version: str | None
    canary: bool
    unknown: list[str]


class ExplainedRequest(BaseModel):
    """The explanation, as that of `sluice explain --json`.

    `breaker`, `limits` and `sent` are null if the request does not get there.
    """

    version: str
    source: str
    method: str
    path: str
    decision: ExplainedDecision
    stages: list[ExplainedStage]
    breaker: dict[str, object] | None
    limits: list[dict[str, object]] | None
    sent: dict[str, object] | None
    notes: list[str]
    placement: str
    placement_reason: str


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """A request to explain. Header names are in lower case; `body` is None if it is not known."""

    method: str
    authority: str
    path: str
    headers: tuple[tuple[str, bytes], ...] = field(repr=False)  # they may hold credentials
    body: bytes | None = field(repr=False)
    client_address: str | None


class NoExplanationError(Exception):
    """A decision cannot be explained now. The message says why."""


class Explainer(Protocol):
    """Explains decisions."""

    async def explain(
        self,
        request: ClientRequest,
        policy: PolicyDocument,
        workers: tuple[str, ...],
        credentials: ClientCredentials,
    ) -> Mapping[str, object]:
        """The explanation by a policy, as plain data of `ExplainedRequest`.

        `workers` are the addresses of the callout workers, which know the breakers and the limits,
        and `credentials` those for them. Raises NoExplanationError.
        """


class ExplainOperation:
    """The handler."""

    def __init__(
        self,
        state: ControlPlaneState,
        explainer: Explainer | None,
        worker_credentials: ClientCredentials,
    ) -> None:
        self._state = state
        self._explainer = explainer
        self._worker_credentials = worker_credentials

    def operations(self) -> tuple[Operation, ...]:
        """The operation."""
        return (
            Operation(
                "POST", "/v1/explain", Role.READER, "The decision on a request, stage by stage",
                self._explain, ExplainedRequest, body=Body((JSON,), "The request.", ExplainInput),
                errors=(Reason.EXPLAIN_UNAVAILABLE,),
                description="Decides by the config in force. Nothing is sent, and nothing counts "
                "for limits or breakers.",
            ),
        )  # fmt: skip

    async def _explain(self, call: Call) -> Response:
        request = _request(call.input(ExplainInput))
        policy = self._state.policy_in_force
        if self._explainer is None or policy is None:
            what = "the package extproc" if policy is not None else "a config in force"
            raise ProblemError(Reason.EXPLAIN_UNAVAILABLE, f"the control plane has not got {what}")
        workers = tuple(map(reachable, self._state.config.callout.addresses()))
        try:
            explained = await self._explainer.explain(
                request, policy, workers, self._worker_credentials
            )
        except NoExplanationError as error:
            raise ProblemError(Reason.EXPLAIN_UNAVAILABLE, str(error)) from None
        return JSONResponse(explained)


def _request(given: ExplainInput) -> ClientRequest:
    if given.client_address is not None and not is_ip(given.client_address):
        raise ProblemError(Reason.INVALID_BODY, "client_address: write an IP address")
    headers: list[tuple[str, bytes]] = []
    try:
        for name, values in given.headers.items():
            listed = [values] if isinstance(values, str) else values
            headers += [(name.lower(), value.encode("latin-1")) for value in listed]
    except UnicodeEncodeError:
        raise ProblemError(Reason.INVALID_BODY, "headers: a value is not Latin-1") from None
    body = _body(given)
    if body is not None and "content-length" not in dict(headers):
        headers.append(("content-length", str(len(body)).encode()))
    return ClientRequest(
        given.method.upper(), given.authority, given.path, tuple(headers), body,
        given.client_address,
    )  # fmt: skip


def _body(given: ExplainInput) -> bytes | None:
    if given.body is not None and given.body_base64 is not None:
        raise ProblemError(Reason.INVALID_BODY, "write body or body_base64, not both")
    if given.body_base64 is None:
        return None if given.body is None else given.body.encode()
    try:
        return base64.b64decode(given.body_base64, validate=True)
    except (ValueError, binascii.Error):
        raise ProblemError(Reason.INVALID_BODY, "body_base64: this is no Base64") from None
