"""Operations on the config history."""

from pydantic import BaseModel, Field
from starlette.responses import Response

from sluice.config import ConfigError, GatewayConfig
from sluice.config.changes import config_changes
from sluice.config.redaction import redacted
from sluice.contract.history import ROLLBACK
from xds.admin.access import Role
from xds.admin.api.operations import JSON, Body, Call, Deferred, Input, Operation, Query
from xds.admin.api.problems import ProblemError, Reason, invalid_config
from xds.admin.changes import ChangeResult, ShownChange, omitted, shown_changes
from xds.admin.edits import CHANGE_ERRORS, IF_MATCH, Edits, WriteQuery, store_problems
from xds.admin.head import Head
from xds.sources.store.store import MAX_HISTORY, Revision, RevisionInfo

_READ_ERRORS = (Reason.UNKNOWN_REVISION, Reason.INVALID_CONFIG, Reason.STORE_UNAVAILABLE)
_MAX_NUMBER = 2**53


class HistoryQuery(Query):
    """Which revisions are listed, the newest first."""

    before: int | None = Field(
        None, ge=1, le=_MAX_NUMBER, description="Only revisions with lower numbers."
    )
    limit: int = Field(50, ge=1, le=MAX_HISTORY, description="Maximum number of revisions.")


class DiffQuery(Query):
    """What a revision is compared with."""

    from_: int | None = Field(
        None, alias="from", ge=1, le=_MAX_NUMBER,
        description="Number of the revision to compare with; default: the one before.",
    )  # fmt: skip


class ListedRevision(BaseModel):
    """A revision. `at` is the time of its append, in Unix seconds.

    `nodes`: the share of the Envoys that got it first; null: as its config says.
    """

    revision: int
    version: str
    author: str
    at: float
    reason: str
    origin: str
    nodes: float | None


class ListedRevisions(BaseModel):
    """Revisions, the newest first. `head` is the number of the last revision."""

    head: int
    revisions: list[ListedRevision]


class ShownRevision(ListedRevision):
    """A revision with the keys that its config sets, without secrets."""

    config: dict[str, object]


class RevisionDiff(BaseModel):
    """What changed from one revision to another. `from_revision` is null for the empty config.

    `omitted` counts the changes that are not listed.
    """

    revision: int
    from_revision: int | None
    changes: list[ShownChange]
    omitted: int


class Rollback(Input):
    """Which revision is restored, and why."""

    revision: int = Field(ge=1, le=_MAX_NUMBER)
    reason: str = Field("", max_length=1000)


class HistoryOperations:
    """The handlers."""

    def __init__(self, edits: Edits) -> None:
        self._edits = edits
        self._applier = edits.applier

    def operations(self) -> tuple[Operation, ...]:
        """The operations on the history."""
        return (
            Operation(
                "GET", "/v1/history", Role.READER, "The revisions, the newest first",
                self._list, ListedRevisions, HistoryQuery, errors=(Reason.STORE_UNAVAILABLE,),
            ),
            Operation(
                "GET", "/v1/history/{revision}", Role.READER, "A revision with its config",
                self._get, ShownRevision, errors=_READ_ERRORS,
            ),
            Operation(
                "GET", "/v1/history/{revision}/diff", Role.READER, "What a revision changed",
                self._diff, RevisionDiff, DiffQuery, errors=_READ_ERRORS,
            ),
            Operation(
                "POST", "/v1/rollback", Role.OPERATOR, "Append an earlier config as a new revision",
                self._roll_back, ChangeResult, WriteQuery,
                Body((JSON,), "The revision.", Rollback),
                (*CHANGE_ERRORS, Reason.UNKNOWN_REVISION), IF_MATCH,
            ),
        )  # fmt: skip

    async def _list(self, call: Call) -> ListedRevisions:
        query = call.query
        assert isinstance(query, HistoryQuery)
        with store_problems():
            found = await self._applier.store.history(query.before, query.limit)
            newest = found[:1] if query.before is None else None
            if newest is None:
                newest = await self._applier.store.history(None, 1)
        head = newest[0].number if newest else 0
        return ListedRevisions(head=head, revisions=[_listed(each) for each in found])

    async def _get(self, call: Call) -> Deferred:
        revision = await self._revision(_number(call.path["revision"]))
        config, listed = await self._config(revision), _listed(revision).model_dump()
        return Deferred(lambda: ShownRevision(**listed, config=redacted(config, defaults=False)))

    async def _diff(self, call: Call) -> Deferred:
        assert isinstance(call.query, DiffQuery)
        revision = await self._revision(_number(call.path["revision"]))
        base = call.query.from_ or revision.number - 1
        old = await self._config(await self._revision(base)) if base else GatewayConfig()
        new, number = await self._config(revision), revision.number

        def make() -> RevisionDiff:
            changes = config_changes(old, new)
            return RevisionDiff(
                revision=number,
                from_revision=base or None,
                changes=shown_changes(changes),
                omitted=omitted(changes),
            )

        return Deferred(make)

    async def _roll_back(self, call: Call) -> Response:
        given = call.input(Rollback)
        revision = await self._revision(given.revision)
        reason = given.reason or f"roll back to revision {revision.number}"

        def edit(_: Head) -> str:
            return revision.text

        return await self._edits.change(
            call, edit, origin=ROLLBACK, reason=reason, from_history=True
        )

    async def _revision(self, number: int) -> Revision:
        with store_problems():
            revision = await self._applier.store.revision(number)
        if revision is None:
            raise ProblemError(Reason.UNKNOWN_REVISION, f"there is no revision {number}")
        return revision

    async def _config(self, revision: Revision) -> GatewayConfig:
        try:
            return await self._applier.config_of(revision)
        except ConfigError as error:
            raise invalid_config(error, lines=False) from None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text[:20]) < _MAX_NUMBER:
        raise ProblemError(Reason.UNKNOWN_REVISION, "a revision has a number, such as 17")
    return int(text)


def _listed(revision: RevisionInfo) -> ListedRevision:
    return ListedRevision(
        revision=revision.number,
        version=revision.version,
        author=revision.author,
        at=revision.at,
        reason=revision.reason,
        origin=revision.origin,
        nodes=revision.nodes,
    )
