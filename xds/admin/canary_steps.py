"""What the admin API shows of canaries with steps, and how operators stop and continue them."""

import time
from collections.abc import Awaitable, Callable

from pydantic import BaseModel, Field

from sluice.config.models import Canary
from xds.admin.access import Role
from xds.admin.api.operations import Call, Operation, Query, quoted
from xds.admin.api.problems import ProblemError, Reason
from xds.admin.edits import Edits, store_problems
from xds.admin.head import canary_of, model_of
from xds.canary.analysis import FINISHED, Phase, Plan, State, paused, resumed
from xds.canary.events import CanaryEvents
from xds.canary.figures import Copies
from xds.canary.records import CanaryRecords, Stored
from xds.envoys.criteria import Figures
from xds.sources.store.store import RecordConflictError


class StepView(BaseModel):
    """A step of a canary. `duration` is in seconds."""

    percent: float
    duration: float


class FiguresView(BaseModel):
    """The requests to a version in the present step. `p99` is in seconds."""

    requests: int
    errors: int
    error_rate: float
    p99: float | None

    @classmethod
    def of(cls, figures: Figures) -> "FiguresView":
        """The view of figures."""
        return cls(
            requests=figures.requests,
            errors=figures.errors,
            error_rate=figures.error_rate,
            p99=figures.p99,
        )


class CopiesView(BaseModel):
    """The copies of requests that the canary got in the present step, compared."""

    copies: int
    agreed: int
    agreement: float | None
    max_difference: float

    @classmethod
    def of(cls, copies: Copies) -> "CopiesView":
        """The view of copies."""
        return cls(
            copies=copies.copies,
            agreed=copies.agreed,
            agreement=copies.agreement,
            max_difference=copies.max_difference,
        )


class AutomationView(BaseModel):
    """How far a canary with steps is. `step` counts from 1.

    `reason`, `author` and `at` (Unix seconds) are those of the latest decision. `progress`: the
    figures of the present step, or what it waits for. `remaining`: seconds of the step that are
    left; None before it is in force. `copies`: None if no criterion is about them.
    """

    state: Phase
    step: int
    steps: list[StepView]
    reason: str
    author: str
    at: float
    progress: str
    remaining: float | None
    canary: FiguresView | None
    stable: FiguresView | None
    copies: CopiesView | None


class FinishedView(BaseModel):
    """A version whose steps have ended. The other fields are as in `AutomationView`."""

    model: str
    version: str
    state: Phase
    reason: str
    author: str
    at: float


class ReasonQuery(Query):
    """Why the steps are stopped or go on."""

    reason: str = Field("", max_length=1000, description="Why; the status of the canary shows it.")


def automation_view(canary: Canary, stored: Stored | None) -> AutomationView | None:
    """What is known of a canary; None without steps, or before the control plane has seen it."""
    if not canary.steps or stored is None:
        return None
    state, progress = stored.state, stored.progress
    step = canary.steps[min(state.step, len(canary.steps) - 1)]
    running = progress is not None and state.phase is Phase.RUNNING
    return AutomationView(
        state=state.phase,
        step=min(state.step, len(canary.steps) - 1) + 1,
        steps=[StepView(percent=s.percent, duration=s.duration) for s in canary.steps],
        reason=state.reason,
        author=state.author,
        at=state.at,
        progress="" if progress is None else progress.text,
        remaining=max(0.0, step.duration - progress.seconds) if progress and running else None,
        canary=None if progress is None else FiguresView.of(progress.canary),
        stable=None if progress is None else FiguresView.of(progress.stable),
        copies=CopiesView.of(progress.copies) if progress and progress.copies else None,
    )


def finished_view(model: str, version: str, state: State) -> FinishedView | None:
    """The view of a state that is final; None for others."""
    if state.phase not in FINISHED:
        return None
    return FinishedView(
        model=model,
        version=version,
        state=state.phase,
        reason=state.reason,
        author=state.author,
        at=state.at,
    )


class StepOperations:
    """The handlers."""

    def __init__(self, edits: Edits, records: CanaryRecords, events: CanaryEvents) -> None:
        self._edits = edits
        self._records = records
        self._events = events

    def operations(self, path: str) -> tuple[Operation, ...]:
        """The operations below the path of a canary."""
        unknown = (Reason.UNKNOWN_MODEL, Reason.UNKNOWN_CANARY, Reason.NO_STEPS)
        errors = (*unknown, Reason.STORE_UNAVAILABLE, Reason.TOO_MANY_REQUESTS)
        return (
            Operation(
                "POST", f"{path}/pause", Role.OPERATOR, "Stop the steps of a canary", self._pause,
                AutomationView, ReasonQuery, errors=errors,
                description="The canary keeps its percentage.",
            ),
            Operation(
                "POST", f"{path}/resume", Role.OPERATOR, "Let the steps of a canary go on",
                self._resume, AutomationView, ReasonQuery, errors=errors,
                description="The steps go on with the last one that has at most the present "
                "percentage. It begins again.",
            ),
        )  # fmt: skip

    async def _pause(self, call: Call) -> AutomationView:
        def change(state: State, _: Plan, author: str, reason: str, at: float) -> State:
            return paused(state, author, reason or "paused", at)

        return await self._change(call, change)

    async def _resume(self, call: Call) -> AutomationView:
        def change(state: State, plan: Plan, author: str, reason: str, at: float) -> State:
            return resumed(state, plan, author, reason or "resumed", at)

        return await self._change(call, change)

    async def _change(
        self, call: Call, change: Callable[[State, Plan, str, str, float], State]
    ) -> AutomationView:
        assert isinstance(call.query, ReasonQuery)
        reason, author = call.query.reason, call.principal.name
        head = await self._edits.head()
        name, version = call.path["model"], call.path["version"]
        model = model_of(head, name)
        canary = canary_of(model, version)
        if not canary.steps:
            raise ProblemError(Reason.NO_STEPS, f"the canary {quoted(version)} has no steps")
        plan = Plan.of(model, canary)
        state = await _written(
            self._records.change(
                name, version, lambda state: change(state, plan, author, reason, time.time())
            )
        )
        self._events.on_state(name, version, state)
        view = automation_view(canary, Stored(state))
        assert view is not None
        return view


async def _written(change: Awaitable[State]) -> State:
    with store_problems():
        try:
            return await change
        except RecordConflictError:
            busy = "the state of the canary changes now"
            raise ProblemError(Reason.TOO_MANY_REQUESTS, busy) from None
        except LookupError:
            detail = "the steps of the canary have not begun; try again in a moment"
            raise ProblemError(Reason.TOO_MANY_REQUESTS, detail) from None
