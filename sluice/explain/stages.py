"""Explains the decision on a request: all stages of the gateway, in the gateway's order.

The stages without state are those of the callout itself. The present state of the breaker and the
limits comes from a worker, which counts nothing for it. The last stages convert the body, as a
worker would.
"""

import time
from collections.abc import Sequence

from extproc.decision import Admission, Refusal, Request, explain
from extproc.decision.decide import STAGES
from extproc.decision.request import JoinedHeaders
from extproc.limits import RequestView
from extproc.limits.rules import compile_rule
from extproc.protection import request_view
from protos.protection_pb2 import InspectResponse
from sluice.config.breaker import BreakerConfig
from sluice.config.gateway import UnderscoresAction
from sluice.config.limits import Limits
from sluice.contract.headers import MODEL_NAME
from sluice.contract.local_replies import LOCAL_REPLIES_BY_STATUS
from sluice.contract.reasons import STATUS, Reason
from sluice.explain import body, envoy_checks, inspection
from sluice.explain.near import near_model
from sluice.explain.own_answers import own_answer, refuses_origin
from sluice.explain.placement import Decided, placed
from sluice.explain.policy import ReadPolicy
from sluice.explain.report import (
    AnsweredError,
    BreakerReport,
    Decision,
    Explanation,
    LimitReport,
    RefusedError,
    Result,
    SentRequest,
    Stage,
)
from sluice.explain.request import HttpRequest
from sluice.explain.source import NoGateway, Source
from sluice.http.client import NoAnswerError

_ORDER = ("envoy", *(stage.name for stage in STAGES), "breaker", "limit", body.STAGE, "upstream")


async def explanation(
    source: Source, read: ReadPolicy, request: HttpRequest, client_address: str | None
) -> Explanation:
    """Explain the decision on a request by a policy.

    `client_address` is the address that Envoy sees; None if the user does not name it.
    """
    return await _Explainer(source, read, request, client_address).run()


class _Explainer:
    """Runs the stages for one request, and collects their results."""

    def __init__(
        self,
        source: Source,
        read: ReadPolicy,
        request: HttpRequest,
        client_address: str | None,
    ) -> None:
        self._source = source
        self._document = read.document
        self._policy = read.policy
        self._request = request
        self._address_given = client_address is not None
        self._headers = _headers_for_callout(
            request, client_address or "127.0.0.1", read.document.headers_with_underscores
        )
        self._stages: list[Stage] = []
        self._breaker: BreakerReport | None = None
        self._limits: tuple[LimitReport, ...] | None = None
        self._sent: SentRequest | None = None
        self._placed = Decided("callout", "native routes only admit, and this request is refused")
        self._notes = [*source.notes, *read.notes]

    async def run(self) -> Explanation:
        """Run the stages in the gateway's order, until one refuses the request."""
        try:
            decision = await self._decision()
        except RefusedError as refused:
            self._add(refused.stage, "refuse", str(refused))
            decision = Decision(
                admitted=False, reason=refused.reason, status=refused.status, detail=refused.detail
            )
        except AnsweredError as answered:
            self._add("envoy", "answer", str(answered))
            self._placed = Decided("callout", "")
            unknown = () if answered.certain else ("envoy",)
            decision = Decision(admitted=True, reason=answered.reason, status=200, unknown=unknown)
        ran = {each.stage for each in self._stages}
        ended = "answered" if decision.admitted else "refused"
        for name in _ORDER:
            if name not in ran:
                self._add(name, "skip", f"not evaluated: the request is {ended} before")
        return Explanation(
            version=self._document.version,
            source=self._source.description,
            method=self._request.method,
            path=self._request.path.partition("?")[0],
            decision=decision,
            stages=tuple(self._stages),
            breaker=self._breaker,
            limits=self._limits,
            sent=self._sent,
            notes=tuple(self._notes),
            placement=self._placed.placement,
            placement_reason=self._placed.reason,
        )

    async def _decision(self) -> Decision:
        """The decision on an admitted request. Raises RefusedError."""
        self._check_as_envoy()
        admission = self._admission()
        self._placed = placed(
            self._document, admission.target.model, admission.target.version, admission.reason,
            self._request, self._headers, admission.identity.source,
        )  # fmt: skip
        view = request_view(admission, self._headers, has_body=self._request.has_body)
        answer = await self._answer(admission, view)
        self._check_breaker(admission, answer)
        if self._breaker is not None and self._breaker.state != "closed":
            state = f"the breaker is {self._breaker.state}, so native routes are off"
            self._placed = Decided("callout", state)
        local = _local_limits(self._document.limits, admission)
        self._add("local_limit", "skip", f"not evaluated: {local}")
        self._check_limits(view, answer)
        stage, self._sent = body.convert(admission, self._headers, self._request)
        self._stages.append(stage)
        video = admission.video_cluster is not None
        asked = "the video service" if video else "an endpoint of the version"
        self._add("upstream", "skip", f"not evaluated: whether {asked} answers")
        return Decision(
            admitted=True,
            reason=admission.reason,
            model=admission.target.model,
            version=admission.target.version,
            canary=admission.canary,
            unknown=tuple(each.stage for each in self._stages if each.result == "unknown"),
            video=video,
        )

    def _add(self, stage: str, result: Result, text: str) -> None:
        self._stages.append(Stage(stage, result, text))

    def _check_as_envoy(self) -> None:
        names = [name for name, _ in self._request.headers]
        underscores = self._document.headers_with_underscores
        refusal = envoy_checks.refusal(self._request.path, names, underscores)
        if refusal is not None:
            reason, _ = LOCAL_REPLIES_BY_STATUS[400]
            raise RefusedError("envoy", 400, reason, refusal)
        path = self._headers[":path"].decode().partition("?")[0]
        answer = own_answer(self._document, self._request, path)
        if answer is not None:
            raise AnsweredError(answer.reason, answer.explanation, certain=answer.certain)
        if refuses_origin(self._document, self._request, path):
            reason = Reason.ORIGIN_NOT_ALLOWED
            raise RefusedError(
                "envoy", 403, reason, "the model accepts no WebSocket from this origin"
            )
        changed = path != self._request.path.partition("?")[0]
        text = f"the path becomes {path}" if changed else "the path stays as it is"
        self._add("envoy", "pass", f"{text}; Envoy's checks of sizes are not evaluated")

    def _admission(self) -> Admission:
        """What the decision of the callout admits. Raises RefusedError."""
        request = Request(self._headers, self._request.has_body, time.time())
        decision, reports = explain(self._policy, request)
        for report in reports:
            if report.passed:
                self._add(report.stage, "pass", report.explanation)
        if isinstance(decision, Refusal):
            if decision.reason is Reason.UNKNOWN_MODEL:
                self._note_near_model()
            raise RefusedError(decision.stage, decision.status, decision.reason, decision.detail)
        return decision

    def _note_near_model(self) -> None:
        path = self._headers[":path"].decode(errors="replace").partition("?")[0]
        named = self._headers.get(MODEL_NAME)
        note = near_model(self._document, path, None if named is None else named.decode("latin-1"))
        if note is not None:
            self._notes.append(note)

    async def _answer(self, admission: Admission, view: RequestView) -> InspectResponse | str:
        """The state of breaker and limits according to a worker, or why it is not known."""
        gateway, rules = self._source.gateway, self._document.limits.rules
        if isinstance(gateway, NoGateway):
            return gateway.reason
        try:
            answer = await inspection.inspect(
                gateway.workers, gateway.worker_credentials, admission.target.cluster, view, rules
            )
        except NoAnswerError as error:
            return str(error)
        if answer.policy != self._document.version:
            self._notes.append(f"the worker that was asked has version {answer.policy} in force")
        return answer

    def _check_breaker(self, admission: Admission, answer: InspectResponse | str) -> None:
        target = admission.target
        breaker = self._document.models[target.model].breaker
        if admission.video_cluster is not None:
            self._add("breaker", "pass", "each frame passes it, as a request of its own")
        elif not breaker.enabled:
            self._add("breaker", "pass", "the version has no breaker")
        elif isinstance(answer, str):
            self._add("breaker", "unknown", f"not known: {answer}")
        else:
            self._breaker = inspection.breaker_report(answer)
            self._add("breaker", "pass", _breaker_text(self._breaker, breaker, target.version))

    def _check_limits(self, view: RequestView, answer: InspectResponse | str) -> None:
        rules = [r for r in self._document.limits.rules if compile_rule(r).applies(view)]
        if not rules:
            self._add("limit", "pass", "no rule applies")
        elif isinstance(answer, str):
            names = ", ".join(rule.name for rule in rules)
            self._add("limit", "unknown", f"not known for {names}: {answer}")
        else:
            self._limits = inspection.limit_reports(answer)
            parts = {part for rule in rules for part in inspection.parts(rule)}
            assumed = "client_address" in parts and not self._address_given
            more = "; the client's address is taken as 127.0.0.1" if assumed else ""
            self._add("limit", "pass", _limits_text(self._limits) + more)


def _headers_for_callout(
    request: HttpRequest, client_address: str, underscores: UnderscoresAction
) -> JoinedHeaders:
    """The headers that Envoy sends to the callout."""
    return JoinedHeaders(
        [
            (":method", request.method.encode()),
            (":path", envoy_checks.normalized_path(request.path).encode()),
            (":authority", request.authority.encode()),
            *envoy_checks.headers_for_callout(request.headers, client_address, underscores),
        ]
    )


def _breaker_text(report: BreakerReport | None, config: BreakerConfig, version: str) -> str:
    """The state of a breaker that admits the request. Raises RefusedError if it is open."""
    if report is None:
        return "the version has no breaker: the shared table is full"
    rate = "" if report.error_rate is None else f"error rate {report.error_rate:.1%}, "
    state = f"{report.state}, {rate}{report.requests} requests in the last {config.window:g} s"
    if report.state == "open":
        detail = f"too many requests to version {version} have failed"
        more = f" ({state}; one request in {config.probe_interval:g} s is admitted as a probe)"
        reason = Reason.BREAKER_OPEN
        raise RefusedError("breaker", STATUS[reason], reason, detail, more)
    if report.state == "reduced":
        share = f"{config.admit:.0%} of the requests are admitted, the others get 503"
        return f"{state}: {share} {Reason.BREAKER_OPEN}"
    return state


def _limits_text(reports: Sequence[LimitReport]) -> str:
    """The states of rules that admit the request. Raises RefusedError if one refuses it."""
    states = "; ".join(map(_limit_text, reports))
    refused = [report for report in reports if not report.admits and not report.shadow]
    if not refused:
        return states
    worst = max(refused, key=lambda report: report.retry_after)
    if worst.unavailable:
        reason, detail = Reason.LIMITS_UNAVAILABLE, "the backend of the limits does not respond"
    else:
        reason, detail = Reason.RATE_LIMITED, f"the limit {worst.rule} is exceeded"
    more = f", retry after {worst.retry_after} s ({states})"
    raise RefusedError("limit", STATUS[reason], reason, detail, more)


def _limit_text(report: LimitReport) -> str:
    if report.unavailable:
        return f"{report.rule}: the backend does not respond"
    shadow = ", which refuses nothing (shadow)" if report.shadow else ""
    cost = "1 token" if report.cost == 1 else f"{report.cost} tokens"
    return (
        f"{report.rule}{shadow}: {report.remaining} of {report.limit} tokens left, "
        f"the request takes {cost}"
    )


def _local_limits(limits: Limits, admission: Admission) -> str:
    """The limits that Envoy counts for a request."""
    target = admission.target
    names = {
        "limits.listener": limits.listener is not None,
        f"limits.models.{target.model}": target.model in limits.models,
        f"limits.model_types.{target.model_type}": target.model_type in limits.model_types,
    }
    found = ", ".join(name for name, applies in names.items() if applies)
    if not found:
        return "the config has no limits that Envoy counts for this model"
    return f"Envoy counts {found} (429 rate_limited)"
