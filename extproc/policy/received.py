"""A policy as the control plane sends it: the settings that all models share, and each model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from google.protobuf.message import DecodeError
from pydantic import BaseModel, ValidationError

from protos import policy_pb2
from sluice.config import Model, PolicyDocument, PolicySettings
from sluice.config.errors import MAX_PROBLEMS, KeyPath
from sluice.config.validation import location, shown_path
from sluice.contract.names import POLICY, policy_model

MODEL: Final = policy_model("")
"""Prefix of the names of resources with a model."""

_Section = TypeVar("_Section", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ReceivedModel:
    """A model as JSON, which is read only if the worker has not compiled it. `version`: its hash.

    `native`: the digest of its native routes; empty if it has none.
    """

    name: str
    version: bytes
    native: str
    config: bytes = field(repr=False)

    def model(self) -> Model:
        """Read the model. Raises ValueError."""
        return _validated(Model, self.config, ("models", self.name))


@dataclass(frozen=True, slots=True)
class ReceivedPolicy:
    """The settings, and the models by name."""

    settings: PolicySettings
    models: Mapping[str, ReceivedModel]

    @classmethod
    def read(
        cls,
        resources: Mapping[str, bytes],
        removed: Iterable[str] = (),
        previous: "ReceivedPolicy | None" = None,
    ) -> "ReceivedPolicy":
        """The policy after a response: changed and removed resources (policy.proto), by name.

        `previous`: the policy before. Does not read the models. Raises ValueError.
        """
        settings = None if previous is None else previous.settings
        models = {} if previous is None else dict(previous.models)
        for name in removed:
            if name == POLICY:
                settings = None
            models.pop(name.removeprefix(MODEL), None)
        for name, body in resources.items():
            message = _message(name, body)
            if name == POLICY:
                settings = _validated(PolicySettings, message.config)
            for each in message.models:
                models[each.name] = ReceivedModel(each.name, each.version, each.native, each.config)
        if settings is None:
            raise ValueError("a policy without settings")
        return cls(settings, models)

    def document(self) -> PolicyDocument:
        """The whole policy. Raises ValueError."""
        models = {name: each.model() for name, each in self.models.items()}
        settings = {key: getattr(self.settings, key) for key in PolicySettings.model_fields}
        return PolicyDocument(**settings, models=models)


def _message(name: str, body: bytes) -> policy_pb2.Policy:
    """The message of a resource, which has the settings or one model by its name."""
    try:
        message = policy_pb2.Policy.FromString(body)
    except DecodeError as error:
        raise ValueError("not a Policy message") from error
    models = [policy_model(each.name) for each in message.models]
    if models != ([] if name == POLICY else [name]):
        raise ValueError("a resource of the policy has another name than its content")
    return message


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
