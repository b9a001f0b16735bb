"""A policy as the control plane sends it: the settings that all models share, and each model.

During a staged rollout, the staged policy comes with it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, TypeVar

from google.protobuf.message import DecodeError
from pydantic import BaseModel, ValidationError

from protos import policy_pb2
from sluice.config import Model, PolicyDocument, PolicySettings
from sluice.config.errors import MAX_PROBLEMS, KeyPath
from sluice.config.validation import location, shown_path
from sluice.contract.names import POLICY, STAGED, policy_model

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
    """The settings, and the models by name.

    `staged`: the staged policy; None without a stage. `nodes`, of a staged policy: the ids of the
    Envoys for which it decides.
    """

    settings: PolicySettings
    models: Mapping[str, ReceivedModel]
    nodes: frozenset[str] = frozenset()
    staged: "ReceivedPolicy | None" = None

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
        changed, changed_of_stage = _by_stage(resources)
        gone, gone_of_stage = _by_stage(dict.fromkeys(removed, b""))
        policy = _after(changed, gone, previous)
        if policy is None:
            raise ValueError(_NO_SETTINGS)
        staged = None if previous is None else previous.staged
        if changed_of_stage or gone_of_stage:
            staged = _after(changed_of_stage, gone_of_stage, staged, policy.models)
        return replace(policy, staged=staged)

    def document(self) -> PolicyDocument:
        """The whole policy. Raises ValueError."""
        models = {name: each.model() for name, each in self.models.items()}
        settings = {key: getattr(self.settings, key) for key in PolicySettings.model_fields}
        return PolicyDocument(**settings, models=models)


_NO_SETTINGS: Final = "a policy without settings"


def _by_stage(resources: Mapping[str, bytes]) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The resources of the policy in force, and those of the staged one, without its prefix."""
    own, staged = {}, {}
    for name, body in resources.items():
        if name.startswith(STAGED):
            staged[name.removeprefix(STAGED)] = body
        else:
            own[name] = body
    return own, staged


def _after(
    resources: Mapping[str, bytes],
    removed: Iterable[str],
    previous: ReceivedPolicy | None,
    shared: Mapping[str, ReceivedModel] = MappingProxyType({}),
) -> ReceivedPolicy | None:
    """A policy after changes; None if nothing of it is left. Raises ValueError.

    Models that are equal to one of `shared` are the same object, so their content is held once.
    """
    settings = None if previous is None else previous.settings
    nodes = frozenset[str]() if previous is None else previous.nodes
    models = {} if previous is None else dict(previous.models)
    for name in removed:
        if name == POLICY:
            settings = None
        models.pop(name.removeprefix(MODEL), None)
    for name, body in resources.items():
        message = _message(name, body)
        if name == POLICY:
            settings = _validated(PolicySettings, message.config)
            nodes = frozenset(message.nodes)
        for each in message.models:
            model = ReceivedModel(each.name, each.version, each.native, each.config)
            same = shared.get(each.name)
            models[each.name] = same if same is not None and same == model else model
    if settings is not None:
        return ReceivedPolicy(settings, models, nodes)
    if models:
        raise ValueError(_NO_SETTINGS)
    return None


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
