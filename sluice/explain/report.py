"""The explanation of a decision: its parts, as text and as JSON.

`Explanation` is the schema of `sluice explain --json`. Members are only added, never renamed.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from sluice.contract.names import Placement

Result = Literal["pass", "refuse", "answer", "unknown", "skip"]


class AnsweredError(Exception):
    """Envoy answers the request by itself. `certain` is False if the answer may be an error."""

    def __init__(self, reason: str, text: str, *, certain: bool) -> None:
        super().__init__(text)
        self.reason, self.certain = reason, certain


class RefusedError(Exception):
    """A stage refuses the request. `detail` is for the client, `more` only for the explanation."""

    def __init__(self, stage: str, status: int, reason: str, detail: str, more: str = "") -> None:
        super().__init__(f"{status} {reason}: {detail}{more}")
        self.stage, self.status, self.reason, self.detail = stage, status, reason, detail


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage. `answer`: Envoy answers the request by itself, with success.

    `unknown`: the gateway evaluates the stage, and this command could not. `skip`: this command
    does not evaluate the stage, or the request was refused or answered before it.
    """

    stage: str
    result: Result
    explanation: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome: a version of a model, or the `status` with which the gateway refuses or answers.

    `unknown` names the stages whose result is not known: any of them may still refuse the request.
    """

    admitted: bool
    reason: str
    status: int | None = None
    detail: str | None = None
    model: str | None = None
    version: str | None = None
    canary: bool = False
    unknown: tuple[str, ...] = ()
    video: bool = False
    """Whether the request goes to the video service. Each frame is then a request of its own."""


@dataclass(frozen=True, slots=True)
class BreakerReport:
    """State of the version's breaker: `closed`, `reduced` or `open`.

    `error_rate` (0 to 1) is None below the minimum volume. `requests` counts those in the window.
    """

    state: str
    error_rate: float | None
    requests: int


@dataclass(frozen=True, slots=True)
class LimitReport:
    """State of a limit rule that applies to the request, which would take `cost` tokens.

    `retry_after` is in seconds, and 0 if the rule admits the request. `shadow` rules refuse
    nothing. `unavailable`: the backend of the limits does not respond.
    """

    rule: str
    admits: bool
    shadow: bool
    unavailable: bool
    limit: int
    remaining: int
    cost: int
    retry_after: int


@dataclass(frozen=True, slots=True)
class SentTensor:
    """An input of the request to the model server."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SentRequest:
    """The request to the model server. `bytes` is the size of its body.

    `inputs` is None if the body is not converted.
    """

    method: str
    path: str
    content_type: str | None
    bytes: int
    inputs: tuple[SentTensor, ...] | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation of one decision. `path` is that of the request, without its query.

    `source` says where the policy comes from. `notes` are what the reader should know. `placement`
    says where the gateway decides: in Envoy alone (`native`), or by the callout.
    """

    version: str
    source: str
    method: str
    path: str
    decision: Decision
    stages: tuple[Stage, ...]
    breaker: BreakerReport | None = None
    limits: tuple[LimitReport, ...] | None = None
    sent: SentRequest | None = None
    notes: tuple[str, ...] = ()
    placement: Placement = "callout"
    placement_reason: str = ""

    def as_json(self) -> dict[str, object]:
        """The explanation as plain data."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The explanation as lines of text."""
        yield f"version {self.version} ({self.source})"
        for stage in self.stages:
            label = "REFUSE" if stage.result == "refuse" else stage.result
            yield f"{label:<8}{stage.stage:<13}{stage.explanation}"
        if self.placement_reason:
            where = "Envoy alone" if self.placement == "native" else "the callout"
            yield f"decides {where}: {self.placement_reason}"
        if self.sent is not None:
            yield from _sent_lines(self.sent)
        for note in self.notes:
            yield f"note    {note}"
        decision = self.decision
        version = f"{decision.model}/{decision.version}"
        if decision.video:
            version = f"{decision.model}, by the video service"
        outcome = version if decision.status is None else decision.status
        yield f"-> {outcome} ({decision.reason})"


def _sent_lines(sent: SentRequest) -> Iterator[str]:
    content_type = sent.content_type or "no content type"
    yield f"sends   {sent.method} {sent.path}, {content_type}, {sent.bytes} bytes"
    for tensor in sent.inputs or ():
        yield f"{'':<8}input {tensor.name}: {tensor.datatype} {list(tensor.shape)}"
