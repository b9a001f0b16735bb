"""What a change of the config does, as responses show it."""

from collections.abc import Sequence
from typing import Final, Self

from pydantic import BaseModel

from sluice.config import Problem
from sluice.config.changes import Change
from sluice.config.errors import json_pointer
from xds.candidate.apply import Candidate

MAX_CHANGES: Final = 1000
"""Changes that a response lists."""


class ShownChange(BaseModel):
    """A key that differs. `path` is its JSON Pointer. null: the key is absent, or null.

    Texts that may be secrets are `(redacted)`: then `old` and `new` may be equal.
    """

    path: str
    old: object
    new: object


class ShownWarning(BaseModel):
    """A warning about a config. `code` is the name of its kind, `pointer` that of its key."""

    code: str
    pointer: str
    key: str
    detail: str


class Validation(BaseModel):
    """A valid config: its version and the warnings about it."""

    version: str
    warnings: list[ShownWarning]


class Difference(Validation):
    """What a config changes. `revision` is the one that it is compared with.

    `omitted` counts the changes that are not listed.
    """

    revision: int
    changes: list[ShownChange]
    omitted: int

    @classmethod
    def of(cls, candidate: Candidate, revision: int) -> Self:
        """The changes of a candidate."""
        return cls(
            version=candidate.version,
            warnings=shown_warnings(candidate.warnings),
            revision=revision,
            changes=shown_changes(candidate.changes),
            omitted=omitted(candidate.changes),
        )


class ChangeResult(Difference):
    """A change. `revision` is the head after it.

    It is the head before it, if this was a dry run (`dry_run`) or nothing has changed.
    """

    dry_run: bool = False


def shown_changes(changes: Sequence[Change]) -> list[ShownChange]:
    """The first changes."""
    return [
        ShownChange(path=json_pointer(each.path), old=each.old, new=each.new)
        for each in changes[:MAX_CHANGES]
    ]


def omitted(changes: Sequence[Change]) -> int:
    """The number of changes that `shown_changes` leaves out."""
    return max(0, len(changes) - MAX_CHANGES)


def shown_warnings(warnings: Sequence[Problem]) -> list[ShownWarning]:
    """Warnings about a config."""
    return [
        ShownWarning(code=each.code, pointer=each.pointer, key=each.key, detail=each.message)
        for each in warnings
    ]
