"""A policy as the control plane sends it: the settings that all models share, and each model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self, TypeVar

from google.protobuf.message import DecodeError
from pydantic import BaseModel, ValidationError

from protos import policy_pb2
from sluice.config import Model, PolicyDocument, PolicySettings
from sluice.config.errors import MAX_PROBLEMS, KeyPath
from sluice.config.validation import location, shown_path

_Section = TypeVar("_Section", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ReceivedModel:
    """A model as JSON, which is read only if the worker does not have it. `version`: its hash.

    `native`: the digest of its native routes; empty if it has none.
    """

    name: str
    version: bytes
    native: str
    _message: policy_pb2.Model = field(repr=False)

    def model(self) -> Model:
        """Read the model. Raises ValueError."""
        return _validated(Model, self._message.config, ("models", self.name))


@dataclass(frozen=True, slots=True)
class ReceivedPolicy:
    """The settings, and the models by name."""

    settings: PolicySettings
    models: Mapping[str, ReceivedModel]

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a Policy message, but not its models. Raises ValueError."""
        try:
            message = policy_pb2.Policy.FromString(body)
        except DecodeError as error:
            raise ValueError("not a Policy message") from error
        models = {
            each.name: ReceivedModel(each.name, each.version, each.native, each)
            for each in message.models
        }
        if len(models) < len(message.models):
            raise ValueError("two models have the same name")
        return cls(_validated(PolicySettings, message.config), models)

    def document(self) -> PolicyDocument:
        """The whole policy. Raises ValueError."""
        models = {name: each.model() for name, each in self.models.items()}
        settings = {key: getattr(self.settings, key) for key in PolicySettings.model_fields}
        return PolicyDocument(**settings, models=models)


def _validated(section: type[_Section], content: bytes, path: KeyPath = ()) -> _Section:
    try:
        return section.model_validate_json(content)
    except ValidationError as error:
        # The reason has no values of the policy, because the policy contains keys.
        found = (
            f"{shown_path((*path, *location(detail)), PolicyDocument)}: {detail['type']}"
            for detail in error.errors(include_input=False)[:MAX_PROBLEMS]
        )
        raise ValueError(f"not a valid policy: {'; '.join(found)}") from None
