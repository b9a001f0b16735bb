"""Assertions: what must be true of every request, whatever else the config says."""

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from sluice.config.enumeration import enumerated
from sluice.config.errors import KeyPath
from sluice.config.invalid import invalid
from sluice.config.models import AllowRule, HeaderMatch
from sluice.config.values import Method, Name, PathPrefix, Percent, Strict, Text
from sluice.contract.headers import AUTHORIZATION, CONTENT_LENGTH, MODEL_NAME, MODEL_VERSION

READ_BY_CHECK: Final = frozenset(
    (AUTHORIZATION, CONTENT_LENGTH, MODEL_NAME, "connection", "content-type", "host", "upgrade")
)
"""Request headers that an assertion cannot name: they follow from the other conditions."""

MAX_ASSERTIONS = 200


class AssertedCallers(AllowRule):
    """Callers that meet every condition of this section."""

    anonymous: bool | None = Field(
        None,
        description="`true`: callers without credentials. `false`: callers with credentials. "
        "Default: both.",
    )

    @model_validator(mode="after")
    def _some_condition(self) -> Self:
        has_identity = bool(self.groups or self.subjects or self.claims)
        if not has_identity and self.anonymous is None:
            raise ValueError("write groups, subjects, claims or anonymous")
        if has_identity and self.anonymous:
            message = "a caller without credentials has no groups, subject and claims: remove them"
            raise invalid(f"{message}, or anonymous", ("anonymous",))
        return self


class AssertedRequests(Strict):
    """Requests that meet every condition of this section."""

    methods: tuple[Method, ...] = Field((), description="The method is one of these.")
    paths: tuple[PathPrefix, ...] = Field(
        (), max_length=32, description="The path is one of these, or below one of these."
    )
    headers: tuple[HeaderMatch, ...] = Field(
        (), max_length=16, description="The request has all of these headers."
    )
    names_version: bool | None = Field(
        None,
        description="`true`: requests that name a version, in `x-model-version` or in the path. "
        "`false`: requests that name none. Default: both. A caller that may use a model may name "
        "each of its versions.",
    )

    @model_validator(mode="after")
    def _headers_are_free(self) -> Self:
        names = [match.name for match in self.headers]
        for index, name in enumerate(names):
            at: KeyPath = ("headers", index, "name")
            if name in READ_BY_CHECK:
                message = f"assertions cannot name {name}: write methods, paths or caller"
                raise invalid(message, at)
            if name in names[:index]:
                raise invalid(f"the header {name} has two values: write two assertions", at)
        if MODEL_VERSION in names and self.names_version is False:
            message = f"the header {MODEL_VERSION} names a version: remove names_version"
            raise invalid(message, ("names_version",))
        return self


class Assertion(Strict):
    """What must be true of every request. A config of which it is not true is refused.

    Conditions: `models`, `caller`, `unless` and `request`. An assertion without conditions is about
    every request. Claims: exactly one of `never`, `always`, `refused`, `admitted` and
    `max_canary_percent`.
    """

    name: Annotated[Text, Field(min_length=1, max_length=200)] = Field(
        description="What must be true, in words. Errors show it."
    )
    models: tuple[Name, ...] = Field((), description="Models. Default: all.")
    caller: AssertedCallers | None = Field(None, description="Callers. Default: all.")
    unless: AssertedCallers | None = Field(
        None, description="Callers about which the assertion says nothing."
    )
    request: AssertedRequests = AssertedRequests()
    never: tuple[Name, ...] | None = Field(
        None, min_length=1, max_length=64, description="No request reaches one of these versions."
    )
    always: tuple[Name, ...] | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="Each request that is admitted reaches one of these versions.",
    )
    refused: bool = Field(False, description="No request is admitted.")
    admitted: bool = Field(False, description="The models' `access` refuses no request (401, 403).")
    max_canary_percent: Percent | None = Field(
        None,
        description="At most this percentage of the users get canaries by `percent`, in each "
        "model, all canaries together, also in their steps.",
    )

    @property
    def claims_made(self) -> tuple[str, ...]:
        """The keys that say what must be true."""
        made = {
            "never": self.never is not None,
            "always": self.always is not None,
            "refused": self.refused,
            "admitted": self.admitted,
            "max_canary_percent": self.max_canary_percent is not None,
        }
        return tuple(key for key, is_set in made.items() if is_set)

    @model_validator(mode="after")
    def _one_claim(self) -> Self:
        made = self.claims_made
        if not made:
            raise ValueError(
                "say what must be true: write never, always, refused: true, admitted: true or "
                "max_canary_percent"
            )
        if len(made) > 1:
            raise invalid(f"{enumerated(made)} are two claims: write two assertions", (made[1],))
        return self
