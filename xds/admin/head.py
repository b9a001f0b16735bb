"""The last revision of the history, and the parts of its config that operations read and edit."""

from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.responses import JSONResponse, Response

from sluice.config import GatewayConfig
from sluice.config.edit import model_data, with_model
from sluice.config.models import Canary, Model
from sluice.config.render import render
from xds.admin.api.conditions import entity_tag, is_unchanged
from xds.admin.api.operations import JSON, YAML, Call, accepted_type, quoted
from xds.admin.api.problems import ProblemError, Reason
from xds.sources.store.store import Revision


@dataclass(frozen=True, slots=True)
class Head:
    """The last revision and its config."""

    revision: Revision
    config: GatewayConfig = field(repr=False)

    @property
    def text(self) -> str:
        """The text of the config, which may hold secrets."""
        return self.revision.text


def shown(call: Call, head: Head, data: object) -> Response:
    """A part of the config as JSON or YAML, with the entity tag of its revision."""
    media_type = accepted_type(call, (JSON, YAML))
    number = head.revision.number
    headers = {"etag": entity_tag(number), "vary": "accept"}
    if is_unchanged(call.header("if-none-match"), number):
        return Response(status_code=304, headers=headers)
    if media_type == YAML:
        return Response(render(data), headers=headers, media_type=YAML)
    return JSONResponse(data, headers=headers)


def model_of(head: Head, name: str) -> Model:
    """The model of this name. Raises ProblemError if there is none."""
    model = head.config.models.get(name)
    if model is None:
        raise ProblemError(Reason.UNKNOWN_MODEL, f"the config has no model {quoted(name)}")
    return model


def canary_of(model: Model, version: str) -> Canary:
    """The canary of a model. Raises ProblemError if the version is none."""
    for canary in model.canaries:
        if canary.version == version:
            return canary
    raise unknown_canary(version)


def unknown_canary(version: str) -> ProblemError:
    """The error for a version that is no canary."""
    return ProblemError(Reason.UNKNOWN_CANARY, f"{quoted(version)} is no canary of the model")


def model_edit(call: Call, edit: Callable[[Model, object], object]) -> Callable[[Head], str]:
    """The edit of the model of a call. `edit` gets the model and its data in the text."""

    def edit_text(head: Head) -> str:
        name = call.path["model"]
        model = model_of(head, name)
        present = model_data(head.text, name)
        changed = edit(model, present)
        # Data that stays equal keeps its text, with the comments in it.
        return head.text if changed == present else with_model(head.text, name, changed)

    return edit_text
