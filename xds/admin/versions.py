"""Operations on the versions of a model: canaries, and the endpoints of a version."""

from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, Field
from starlette.responses import Response

from sluice.config.models import Canary, Model
from xds.admin.access import Role
from xds.admin.api.merge_patch import Data
from xds.admin.api.operations import JSON, Body, Call, Input, Operation, quoted
from xds.admin.api.problems import ProblemError, Reason
from xds.admin.canary_steps import (
    AutomationView,
    FinishedView,
    StepOperations,
    automation_view,
    finished_view,
)
from xds.admin.changes import ChangeResult
from xds.admin.edits import CHANGE_ERRORS, IF_MATCH, Edits, WriteQuery, store_problems
from xds.admin.head import canary_of, model_edit, model_of, unknown_canary
from xds.canary.analysis import Change
from xds.canary.edits import NoCanaryError, aborted, promoted, with_percent
from xds.canary.events import CanaryEvents
from xds.canary.records import CanaryRecords, Stored
from xds.events import Events

CANARY = "/v1/models/{model}/canaries/{version}"
ENDPOINT = "/v1/models/{model}/versions/{version}/endpoints/{address}"

_EditModel = Callable[[Model, Data], Data]
_EndCanary = Callable[[Model, Data, str], Data]
"""Changes the data of a model."""

_UNKNOWN = (Reason.UNKNOWN_MODEL, Reason.UNKNOWN_VERSION)


class CanaryView(BaseModel):
    """A canary: `percent` of the users get `version` instead of `stable`.

    `automation` is None if the canary has no steps.
    """

    model: str
    version: str
    stable: str
    percent: float
    automation: AutomationView | None


class CanaryViews(BaseModel):
    """The canaries of a revision, and versions whose steps have ended."""

    revision: int
    canaries: list[CanaryView]
    finished: list[FinishedView]


class CanaryPercent(Input):
    """How many users get the canary, in percent."""

    percent: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class EndpointWeight(Input):
    """The load balancing weight of an endpoint."""

    weight: int = Field(ge=1, le=128)


class VersionOperations:
    """The handlers."""

    def __init__(self, edits: Edits, events: Events) -> None:
        self._edits = edits
        self._records = CanaryRecords(edits.applier.store)
        self._events = CanaryEvents(events)
        self._steps = StepOperations(edits, self._records, self._events)

    def operations(self) -> tuple[Operation, ...]:
        """The operations on canaries and endpoints."""
        percent = Body((JSON,), "The percentage.", CanaryPercent)
        weight = Body((JSON,), "The weight.", EndpointWeight)
        of_canary = (*CHANGE_ERRORS, *_UNKNOWN)
        known_canary = (*CHANGE_ERRORS, Reason.UNKNOWN_MODEL, Reason.UNKNOWN_CANARY)
        of_endpoint = (*CHANGE_ERRORS, *_UNKNOWN, Reason.UNKNOWN_ENDPOINT)
        return (
            Operation(
                "GET", "/v1/canaries", Role.READER, "All canaries", self._list, CanaryViews,
                errors=(Reason.STORE_UNAVAILABLE,),
            ),
            Operation(
                "GET", CANARY, Role.READER, "A canary", self._get, CanaryView,
                errors=(Reason.STORE_UNAVAILABLE, Reason.UNKNOWN_MODEL, Reason.UNKNOWN_CANARY),
            ),
            Operation(
                "PUT", CANARY, Role.OPERATOR, "Make a version a canary, or change its percentage",
                self._set, ChangeResult, WriteQuery, percent, of_canary, IF_MATCH,
                description="The other settings of a canary stay as they are.",
            ),
            Operation(
                "POST", f"{CANARY}/promote", Role.OPERATOR, "Make a canary the stable version",
                self._promote, ChangeResult, WriteQuery, None, known_canary, IF_MATCH,
                description="The version becomes `stable`, and is no canary any more. The version "
                "that was stable stays, for requests that choose it.",
            ),
            Operation(
                "POST", f"{CANARY}/abort", Role.OPERATOR, "Take a canary out of the traffic",
                self._abort, ChangeResult, WriteQuery, None, known_canary, IF_MATCH,
                description="The version is no canary any more: neither a percentage nor a header "
                "selects it. The version itself stays, for requests that choose it.",
            ),
            *self._steps.operations(CANARY),
            Operation(
                "POST", f"{ENDPOINT}/drain", Role.OPERATOR, "Send an endpoint no new requests",
                self._drain, ChangeResult, WriteQuery, None, of_endpoint, IF_MATCH,
            ),
            Operation(
                "POST", f"{ENDPOINT}/undrain", Role.OPERATOR, "Send an endpoint requests again",
                self._undrain, ChangeResult, WriteQuery, None, of_endpoint, IF_MATCH,
            ),
            Operation(
                "PUT", f"{ENDPOINT}/weight", Role.OPERATOR, "Set the weight of an endpoint",
                self._set_weight, ChangeResult, WriteQuery, weight, of_endpoint, IF_MATCH,
            ),
        )  # fmt: skip

    async def _list(self, _: Call) -> CanaryViews:
        head = await self._edits.head()
        with store_problems():
            states = await self._records.all()
        stored = {key: each.stored for key, each in states.items() if each.stored is not None}
        models = head.config.models
        canaries = [
            _view(name, model, each, stored.get((name, each.version)))
            for name, model in models.items()
            for each in model.canaries
        ]
        present = {(each.model, each.version) for each in canaries}
        finished = [
            finished_view(*key, each.state)
            for key, each in stored.items()
            if key not in present and key[0] in models and key[1] in models[key[0]].versions
        ]
        return CanaryViews(
            revision=head.revision.number,
            canaries=canaries,
            finished=[each for each in finished if each is not None],
        )

    async def _get(self, call: Call) -> CanaryView:
        head = await self._edits.head()
        name, version = call.path["model"], call.path["version"]
        model = model_of(head, name)
        canary = canary_of(model, version)
        with store_problems():
            found = await self._records.get(name, version)
        return _view(name, model, canary, found.stored)

    async def _set(self, call: Call) -> Response:
        version, percent = call.path["version"], call.input(CanaryPercent).percent

        def edit(model: Model, data: Data) -> Data:
            _check_version(model, version)
            return with_percent(model, data, version, percent)

        what = f"canary {version} gets {percent:g} %"
        return await self._change_canary(call, edit, what, Change.SET, percent)

    async def _promote(self, call: Call) -> Response:
        return await self._end(call, promoted, "promoted", Change.PROMOTE)

    async def _abort(self, call: Call) -> Response:
        return await self._end(call, aborted, "aborted", Change.ABORT)

    async def _end(self, call: Call, end: _EndCanary, done: str, action: Change) -> Response:
        version = call.path["version"]

        def edit(model: Model, data: Data) -> Data:
            try:
                return end(model, data, version)
            except NoCanaryError:
                raise unknown_canary(version) from None

        return await self._change_canary(call, edit, f"canary {version} is {done}", action)

    async def _drain(self, call: Call) -> Response:
        return await self._edit_endpoint(call, "drain", "drain", True)

    async def _undrain(self, call: Call) -> Response:
        return await self._edit_endpoint(call, "undrain", "drain", None)

    async def _set_weight(self, call: Call) -> Response:
        weight = call.input(EndpointWeight).weight
        return await self._edit_endpoint(call, f"weight {weight} for", "weight", weight)

    async def _edit_endpoint(self, call: Call, verb: str, key: str, value: object) -> Response:
        """Set a key of an endpoint; None removes it. `verb` is for the history."""
        version, address = call.path["version"], call.path["address"]

        def edit(model: Model, data: Data) -> Data:
            _check_version(model, version)
            index = _endpoint_index(model, version, address)
            versions = data["versions"]
            assert isinstance(versions, dict)
            endpoints = _list_in(versions[version], "endpoints")
            kept = {name: each for name, each in endpoints[index].items() if name != key}
            endpoints[index] = kept if value is None else {**endpoints[index], key: value}
            changed = {**versions[version], "endpoints": endpoints}
            return {**data, "versions": {**versions, version: changed}}

        return await self._change(call, edit, f"{verb} {address}")

    async def _change_canary(
        self, call: Call, edit: _EditModel, what: str, action: Change, percent: float | None = None
    ) -> Response:
        model, version = call.path["model"], call.path["version"]

        def then(revision: int) -> None:
            self._events.on_revision(model, version, action, revision, percent=percent)

        return await self._change(call, edit, what, origin="canary", then=then)

    async def _change(
        self,
        call: Call,
        edit: _EditModel,
        what: str,
        *,
        origin: str = "api",
        then: Callable[[int], None] | None = None,
    ) -> Response:
        """Change the model. `what` is the reason of the revision. `then`: see `Edits.change`."""

        def edit_data(model: Model, data: object) -> object:
            assert isinstance(data, dict)
            return edit(model, data)

        change = model_edit(call, edit_data)
        reason = f"model {call.path['model']}: {what}"
        return await self._edits.change(call, change, origin=origin, reason=reason, then=then)


def _view(name: str, model: Model, canary: Canary, stored: Stored | None) -> CanaryView:
    return CanaryView(
        model=name,
        version=canary.version,
        stable=model.stable_version,
        percent=canary.percent,
        automation=automation_view(canary, stored),
    )


def _list_in(data: object, key: str) -> list[Data]:
    """A copy of a list of a model's data."""
    assert isinstance(data, dict)
    return list(data.get(key) or ())


def _check_version(model: Model, version: str) -> None:
    if version not in model.versions:
        detail = f"the model has no version {quoted(version)}; it has {', '.join(model.versions)}"
        raise ProblemError(Reason.UNKNOWN_VERSION, detail)


def _endpoint_index(model: Model, version: str, address: str) -> int:
    for index, endpoint in enumerate(model.versions[version].endpoints):
        if endpoint.address == address:
            return index
    detail = f"version {quoted(version)} has no endpoint {quoted(address)}"
    raise ProblemError(Reason.UNKNOWN_ENDPOINT, detail)
