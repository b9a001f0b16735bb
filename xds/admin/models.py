"""Operations on single models, and on the limits, which are parts of the config too."""

from pydantic import BaseModel
from starlette.responses import Response

from sluice.config.edit import section_data, with_model, with_section, without_model
from sluice.config.limits import Limits
from sluice.config.models import Model
from sluice.config.placeholders import with_secrets
from sluice.config.redaction import redacted_value
from xds.admin.access import Role
from xds.admin.api.bodies import part_data, patch, patch_data, whole
from xds.admin.api.merge_patch import merged
from xds.admin.api.operations import JSON, YAML, Call, Operation
from xds.admin.api.problems import Reason
from xds.admin.changes import ChangeResult
from xds.admin.edits import (
    CHANGE_ERRORS,
    IF_MATCH,
    IF_NONE_MATCH,
    READ_ERRORS,
    Edits,
    ReadQuery,
    WriteQuery,
)
from xds.admin.head import Head, model_edit, model_of, shown

LIMITS = "limits"


class ListedCanary(BaseModel):
    """A canary of a model."""

    version: str
    percent: float


class ListedModel(BaseModel):
    """A model in short."""

    name: str
    type: str | None
    stable: str
    versions: list[str]
    canaries: list[ListedCanary]


class ListedModels(BaseModel):
    """The models of a revision."""

    revision: int
    models: list[ListedModel]


class ModelOperations:
    """The handlers."""

    def __init__(self, edits: Edits) -> None:
        self._edits = edits

    def operations(self) -> tuple[Operation, ...]:
        """The operations on models and limits."""
        model, limits = whole(Model, "The model"), whole(Limits, "The section `limits`")
        unknown = (Reason.UNKNOWN_MODEL,)
        return (
            Operation(
                "GET", "/v1/models", Role.READER, "The models in short", self._list, ListedModels,
                errors=(Reason.STORE_UNAVAILABLE,),
            ),
            Operation(
                "GET", "/v1/models/{model}", Role.READER, "A model, without secrets",
                self._get, None, ReadQuery, errors=(*READ_ERRORS, *unknown),
                headers=IF_NONE_MATCH, media_types=(JSON, YAML),
            ),
            Operation(
                "PUT", "/v1/models/{model}", Role.OPERATOR, "Add or replace a model",
                self._put, ChangeResult, WriteQuery, model, CHANGE_ERRORS, IF_MATCH,
            ),
            Operation(
                "PATCH", "/v1/models/{model}", Role.OPERATOR, "Change a part of a model",
                self._patch, ChangeResult, WriteQuery, patch("the model"),
                (*CHANGE_ERRORS, *unknown), IF_MATCH,
            ),
            Operation(
                "DELETE", "/v1/models/{model}", Role.OPERATOR, "Remove a model",
                self._delete, ChangeResult, WriteQuery, None, (*CHANGE_ERRORS, *unknown), IF_MATCH,
            ),
            Operation(
                "GET", "/v1/limits", Role.READER, "The limits, without secrets",
                self._get_limits, None, ReadQuery, errors=READ_ERRORS,
                headers=IF_NONE_MATCH, media_types=(JSON, YAML),
            ),
            Operation(
                "PUT", "/v1/limits", Role.OPERATOR, "Replace the limits",
                self._put_limits, ChangeResult, WriteQuery, limits, CHANGE_ERRORS, IF_MATCH,
            ),
            Operation(
                "PATCH", "/v1/limits", Role.OPERATOR, "Change a part of the limits",
                self._patch_limits, ChangeResult, WriteQuery, patch("the limits"), CHANGE_ERRORS,
                IF_MATCH,
            ),
        )  # fmt: skip

    async def _list(self, _: Call) -> ListedModels:
        head = await self._edits.head()
        models = [_listed(name, model) for name, model in head.config.models.items()]
        return ListedModels(revision=head.revision.number, models=models)

    async def _get(self, call: Call) -> Response:
        head = await self._edits.head()
        model = model_of(head, call.path["model"])
        return shown(call, head, _part(call, model))

    async def _put(self, call: Call) -> Response:
        name = call.path["model"]

        def edit(head: Head) -> str:
            path = ("models", name)
            data = with_secrets(part_data(call, path), head.config.models.get(name), path)
            return with_model(head.text, name, data)

        return await self._edits.change(call, edit)

    async def _patch(self, call: Call) -> Response:
        def edit(model: Model, present: object) -> object:
            path = ("models", call.path["model"])
            return merged(present, with_secrets(patch_data(call), model, path))

        return await self._edits.change(call, model_edit(call, edit))

    async def _delete(self, call: Call) -> Response:
        name = call.path["model"]

        def edit(head: Head) -> str:
            model_of(head, name)
            return without_model(head.text, name)

        return await self._edits.change(call, edit)

    async def _get_limits(self, call: Call) -> Response:
        head = await self._edits.head()
        return shown(call, head, _part(call, head.config.limits))

    async def _put_limits(self, call: Call) -> Response:
        def edit(head: Head) -> str:
            data = with_secrets(part_data(call, (LIMITS,)), head.config.limits, (LIMITS,))
            return with_section(head.text, LIMITS, data if data is not None else {})

        return await self._edits.change(call, edit)

    async def _patch_limits(self, call: Call) -> Response:
        def edit(head: Head) -> str:
            filled = with_secrets(patch_data(call), head.config.limits, (LIMITS,))
            present = section_data(head.text, LIMITS)
            return with_section(head.text, LIMITS, merged(present, filled))

        return await self._edits.change(call, edit)


def _part(call: Call, section: BaseModel) -> object:
    assert isinstance(call.query, ReadQuery)
    return redacted_value(section, hidden=False, defaults=call.query.defaults)


def _listed(name: str, model: Model) -> ListedModel:
    return ListedModel(
        name=name,
        type=model.type,
        stable=model.stable_version,
        versions=list(model.versions),
        canaries=[ListedCanary(version=c.version, percent=c.percent) for c in model.canaries],
    )
