"""Explains the decision on a request: all stages of the gateway, in the gateway's order.

The policy comes from the running gateway, or from a config file. The stages without state are those
of the callout itself. The present state of the breaker and the limits comes from a worker, which
counts nothing for it. The last stages convert the body, as a worker would.

Separate from `sluice.cli.explain`, which must not import extproc.
"""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from extproc.decision import Admission, Refusal, Request, explain
from extproc.decision.decide import STAGES
from extproc.decision.request import JoinedHeaders
from extproc.limits import RequestView
from extproc.limits.rules import compile_rule
from extproc.policy.compiled import Policy, compile_policy
from extproc.policy.subscriber import fetch_policy
from extproc.protection import request_view
from protos.base_pb2 import Node
from protos.protection_pb2 import InspectResponse
from sluice.cli import envoy_checks, inspection
from sluice.cli.commands import CommandError
from sluice.cli.curl import HttpRequest
from sluice.cli.explained import (
    BreakerReport,
    Decision,
    Explanation,
    LimitReport,
    Result,
    SentRequest,
    Stage,
)
from sluice.cli.explained_body import BodyRefusedError, body_stage
from sluice.config import PolicyDocument, policy_document
from sluice.config.breaker import BreakerConfig
from sluice.config.limits import Limits
from sluice.config.load import load
from sluice.contract.local_replies import LOCAL_REPLIES_BY_STATUS
from sluice.contract.reasons import STATUS, Reason
from sluice.http.client import NoAnswerError
from sluice.keys.fetch import FetchError, fetch_document
from sluice.keys.key_set import KeySet, KeySetError

TIMEOUT = 5.0
"""Seconds for the policy to arrive."""


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """Addresses of a running gateway, and its URL for errors."""

    url: str
    xds: str
    workers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the policy and the state come from.

    `gateway` is None if no gateway is asked; then `config` is the config file, and `no_state` says
    why the state is not known.
    """

    description: str
    gateway: RunningGateway | None = None
    config: Path | None = None
    no_state: str = ""
    notes: tuple[str, ...] = field(default=())


def explanation(source: Source, request: HttpRequest, client_address: str | None) -> Explanation:
    """Explain the decision on a request.

    `client_address` is the address that Envoy sees; None if the user does not name it. Raises
    ConfigError for an invalid config, and CommandError when the policy or a key set cannot be
    fetched.
    """
    return asyncio.run(_explain(source, request, client_address))


async def _explain(source: Source, request: HttpRequest, client_address: str | None) -> Explanation:
    try:
        document = await _document(source)
        policy = await _policy(document)
    except (ValueError, OSError) as error:
        place = source.gateway.xds if source.gateway else source.config
        raise CommandError(f"no policy from {place}: {_reason(error)}") from error
    explained = _Explained(source, document, policy, request, client_address)
    await explained.run()
    return explained.result()


async def _document(source: Source) -> PolicyDocument:
    if source.gateway is None:
        assert source.config is not None
        return policy_document(load(source.config), source.config.parent)
    async with asyncio.timeout(TIMEOUT):
        node = Node(id=f"explain-{socket.gethostname()}-{os.getpid()}")
        return await fetch_policy(source.gateway.xds, node)


async def _policy(document: PolicyDocument) -> Policy:
    policy = compile_policy(document)
    # A policy has no keys of a jwks_uri: each worker fetches them, and so does this command.
    for issuer in policy.authenticator.auth.issuers:
        if issuer.jwks_uri is not None:
            keys = await _fetch_keys(issuer.issuer, issuer.jwks_uri)
            policy.authenticator.replace_keys(issuer.issuer, keys, time.monotonic())
    return policy


async def _fetch_keys(issuer: str, uri: str) -> KeySet:
    try:
        return KeySet.parse(await fetch_document(uri))
    except (FetchError, KeySetError) as error:
        raise CommandError(f"no key set of {issuer}: {error}") from None


def _reason(error: Exception) -> str:
    return str(error) or "no response in time"


class _Explained:
    """One explanation, while its stages run."""

    def __init__(
        self,
        source: Source,
        document: PolicyDocument,
        policy: Policy,
        request: HttpRequest,
        client_address: str | None,
    ) -> None:
        self._source = source
        self._document = document
        self._policy = policy
        self._request = request
        self._address_given = client_address is not None
        headers = envoy_checks.headers_for_callout(request.headers, client_address or "127.0.0.1")
        path = envoy_checks.normalized_path(request.path)
        self._headers = JoinedHeaders(
            [
                (":method", request.method.encode()),
                (":path", path.encode()),
                (":authority", request.authority.encode()),
                *headers,
            ]
        )
        self._stages: list[Stage] = []
        self._admission: Admission | None = None
        self._answer: InspectResponse | None = None
        self._no_answer = source.no_state
        self._decision: Decision | None = None
        """The refusal, once a stage refuses the request."""
        self._breaker: BreakerReport | None = None
        self._limits: tuple[LimitReport, ...] | None = None
        self._sent: SentRequest | None = None

    async def run(self) -> None:
        """Run the stages in the gateway's order, until one refuses the request."""
        stages: tuple[tuple[tuple[str, ...], Callable[[], Awaitable[None] | None]], ...] = (
            (("envoy",), self._run_envoy),
            (tuple(stage.name for stage in STAGES), self._run_decision),
            (("breaker",), self._run_breaker),
            (("limit",), self._run_limits),
            (("body",), self._run_body),
            (("upstream",), self._run_upstream),
        )
        for names, stage in stages:
            if self._decision is None:
                running = stage()
                if running is not None:
                    await running
            ran = {each.stage for each in self._stages}
            for name in names:
                if name not in ran:
                    self._add(name, "skip", "not evaluated: the request is refused before")

    def result(self) -> Explanation:
        return Explanation(
            version=self._document.version,
            source=self._source.description,
            method=self._request.method,
            path=self._request.path.partition("?")[0],
            decision=self._decision or self._admitted(),
            stages=tuple(self._stages),
            breaker=self._breaker,
            limits=self._limits,
            sent=self._sent,
            notes=(*self._source.notes, *self._worker_notes()),
        )

    def _worker_notes(self) -> Iterator[str]:
        if self._answer is not None and self._answer.policy != self._document.version:
            yield f"the worker that was asked has version {self._answer.policy} in force"

    def _admitted(self) -> Decision:
        admission = self._admission
        assert admission is not None
        return Decision(
            admitted=True,
            reason=admission.reason,
            model=admission.target.model,
            version=admission.target.version,
            canary=admission.canary,
            unknown=tuple(each.stage for each in self._stages if each.result == "unknown"),
        )

    def _add(self, stage: str, result: Result, text: str) -> None:
        self._stages.append(Stage(stage, result, text))

    def _refuse(self, stage: str, status: int, reason: str, detail: str, more: str = "") -> None:
        self._decision = Decision(admitted=False, reason=reason, status=status, detail=detail)
        self._add(stage, "refuse", f"{status} {reason}: {detail}{more}")

    def _run_envoy(self) -> None:
        names = [name for name, _ in self._request.headers]
        refusal = envoy_checks.refusal(self._request.path, names)
        if refusal is not None:
            reason, _ = LOCAL_REPLIES_BY_STATUS[400]
            self._refuse("envoy", 400, reason, refusal)
            return
        path = self._headers[":path"].decode().partition("?")[0]
        changed = path != self._request.path.partition("?")[0]
        text = f"the path becomes {path}" if changed else "the path stays as it is"
        self._add("envoy", "pass", f"{text}; Envoy's checks of sizes are not evaluated")

    def _run_decision(self) -> None:
        request = Request(self._headers, self._request.has_body, time.time())
        decision, reports = explain(self._policy, request)
        for report in reports:
            if report.passed:
                self._add(report.stage, "pass", report.explanation)
        if isinstance(decision, Refusal):
            self._refuse(decision.stage, decision.status, decision.reason, decision.detail)
        else:
            self._admission = decision

    async def _run_breaker(self) -> None:
        assert self._admission is not None
        target = self._admission.target
        await self._ask_worker()
        breaker = self._document.models[target.model].breaker
        if not breaker.enabled:
            self._add("breaker", "pass", "the version has no breaker")
        elif self._answer is None:
            self._add("breaker", "unknown", f"not known: {self._no_answer}")
        else:
            self._breaker = inspection.breaker_report(self._answer)
            self._explain_breaker(breaker, target.version)

    def _explain_breaker(self, config: BreakerConfig, version: str) -> None:
        report = self._breaker
        if report is None:
            self._add("breaker", "pass", "the version has no breaker: the shared table is full")
            return
        rate = "" if report.error_rate is None else f"error rate {report.error_rate:.1%}, "
        state = f"{report.state}, {rate}{report.requests} requests in the last {config.window:g} s"
        if report.state == "open":
            detail = f"too many requests to version {version} have failed"
            more = f" ({state}; one request in {config.probe_interval:g} s is admitted as a probe)"
            reason = Reason.BREAKER_OPEN
            self._refuse("breaker", STATUS[reason], reason, detail, more)
        elif report.state == "reduced":
            share = f"{config.admit:.0%} of the requests are admitted, the others get 503"
            self._add("breaker", "pass", f"{state}: {share} {Reason.BREAKER_OPEN}")
        else:
            self._add("breaker", "pass", state)

    async def _ask_worker(self) -> None:
        gateway, admission = self._source.gateway, self._admission
        if gateway is None:
            return
        assert admission is not None
        try:
            self._answer = await inspection.inspect(
                gateway.workers,
                admission.target.cluster,
                self._view(),
                self._document.limits.rules,
            )
        except NoAnswerError as error:
            self._no_answer = str(error)

    def _view(self) -> RequestView:
        assert self._admission is not None
        return request_view(self._admission, self._headers, has_body=self._request.has_body)

    def _run_limits(self) -> None:
        view = self._view()
        rules = [r for r in self._document.limits.rules if compile_rule(r).applies(view)]
        if not rules:
            self._add("limit", "pass", "no rule applies")
        elif self._answer is None:
            names = ", ".join(rule.name for rule in rules)
            self._add("limit", "unknown", f"not known for {names}: {self._no_answer}")
        else:
            self._limits = inspection.limit_reports(self._answer)
            parts = {part for rule in rules for part in inspection.parts(rule)}
            assumed = "client_address" in parts and not self._address_given
            self._explain_limits("; the client's address is taken as 127.0.0.1" if assumed else "")
        self._add("local_limit", "skip", f"not evaluated: {self._local_limits()}")

    def _explain_limits(self, more: str) -> None:
        reports = self._limits or ()
        refused = [report for report in reports if not report.admits and not report.shadow]
        states = "; ".join(map(_limit_text, reports)) + more
        if not refused:
            self._add("limit", "pass", states)
            return
        worst = max(refused, key=lambda report: report.retry_after)
        if worst.unavailable:
            reason, detail = Reason.LIMITS_UNAVAILABLE, "the backend of the limits does not respond"
        else:
            reason, detail = Reason.RATE_LIMITED, f"the limit {worst.rule} is exceeded"
        more = f", retry after {worst.retry_after} s ({states})"
        self._refuse("limit", STATUS[reason], reason, detail, more)

    def _local_limits(self) -> str:
        assert self._admission is not None
        found = list(_local_limits(self._document.limits, self._admission))
        if not found:
            return "the config has no limits that Envoy counts for this model"
        return f"Envoy counts {', '.join(found)} (429 rate_limited)"

    def _run_body(self) -> None:
        assert self._admission is not None
        try:
            stage, self._sent = body_stage(self._admission, self._headers, self._request)
        except BodyRefusedError as refused:
            self._refuse("body", refused.status, refused.reason, refused.detail)
        else:
            self._stages.append(stage)

    def _run_upstream(self) -> None:
        self._add("upstream", "skip", "not evaluated: whether an endpoint of the version answers")


def _limit_text(report: LimitReport) -> str:
    if report.unavailable:
        return f"{report.rule}: the backend does not respond"
    shadow = ", which refuses nothing (shadow)" if report.shadow else ""
    cost = "1 token" if report.cost == 1 else f"{report.cost} tokens"
    return (
        f"{report.rule}{shadow}: {report.remaining} of {report.limit} tokens left, "
        f"the request takes {cost}"
    )


def _local_limits(limits: Limits, admission: Admission) -> Iterable[str]:
    """The names of the limits that Envoy counts for a request."""
    target = admission.target
    if limits.listener is not None:
        yield "limits.listener"
    if target.model in limits.models:
        yield f"limits.models.{target.model}"
    if target.model_type in limits.model_types:
        yield f"limits.model_types.{target.model_type}"
