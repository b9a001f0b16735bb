"""The config of the history for the admin API: reads of the head, and the one way to change it.

Changes of this process follow one another. Another replica may still be first: a change without
`If-Match` is then made again on top of the new head, and no change is lost.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pydantic import Field
from starlette.responses import Response

from sluice.config import ConfigError
from sluice.envoy_binary import NoEnvoyError
from xds.admin.access import Role
from xds.admin.api.conditions import conflict, entity_tag, expected_revision
from xds.admin.api.operations import JSON, Call, Query
from xds.admin.api.problems import ProblemError, Reason, invalid_config
from xds.admin.changes import ChangeResult
from xds.admin.head import Head
from xds.admin.lane import Lane
from xds.candidate.apply import Applier, Candidate, FileSourceError
from xds.candidate.strict import StrictCheckError, check_with_envoy
from xds.sources.store.store import ConflictError, StoreError

MAX_WAITING: Final = 32
"""Changes that wait for others. Each holds its body, and a config takes a while to check."""

MAX_WAITING_READERS: Final = 8
"""Checks of readers that wait for others."""

MAX_ATTEMPTS: Final = 5
"""Attempts of a change while other replicas change the config too."""

IF_MATCH: Final = {
    "If-Match": "The revision that the change is based on, as its entity tag; another head is "
    "refused (412).",
}
IF_NONE_MATCH: Final = {"If-None-Match": "The revision that the caller has: then 304."}

CANDIDATE_ERRORS: Final = (
    Reason.INVALID_CONFIG,
    Reason.STORE_UNAVAILABLE,
    Reason.STRICT_UNAVAILABLE,
    Reason.TOO_MANY_REQUESTS,
)
CHECK_ERRORS: Final = (Reason.ROLE_REQUIRED, *CANDIDATE_ERRORS)
CHANGE_ERRORS: Final = (Reason.FILE_SOURCE, Reason.CONFLICT, *CANDIDATE_ERRORS)
READ_ERRORS: Final = (Reason.NOT_ACCEPTABLE, Reason.STORE_UNAVAILABLE)


class ReadQuery(Query):
    """How much of the config is shown."""

    defaults: bool = Field(True, description="Whether keys that the config does not set are shown.")


class CheckQuery(Query):
    """How a config is checked."""

    strict: bool = Field(
        False, description="Let the real Envoy check the config too; needs the role operator."
    )


class WriteQuery(CheckQuery):
    """How a change is made."""

    dry_run: bool = Field(False, description="Check the change, and do not make it.")
    reason: str = Field("", max_length=1000, description="Why; the history shows it.")
    nodes: float | None = Field(
        None, gt=0, le=1,
        description="Share of the connected Envoys that get the change first; the others follow "
        "when these meet `rollout.criteria` for `rollout.soak`. 1: all at once. Default: "
        "`rollout.nodes` of the config.",
    )  # fmt: skip
    allow_disruption: bool = Field(
        False,
        description="Make the change also if it would cut off clients, as `allow_disruption` of "
        "the config.",
    )


Edit = Callable[[Head], str]
"""Makes the text of a candidate. Runs in a thread, and again if another replica was first."""


class Edits:
    """Reads the config, and makes edits of it one after the other."""

    def __init__(self, applier: Applier) -> None:
        self.applier = applier
        self._changes = Lane(MAX_WAITING)
        self._of_readers = Lane(MAX_WAITING_READERS)
        """Readers must not keep operators from a change."""

    async def head(self) -> Head:
        """The last revision. Raises ProblemError if the store does not respond."""
        with store_problems():
            revision = await self.applier.store.head()
            if revision is None:
                raise ProblemError(Reason.STORE_UNAVAILABLE, "the history is empty")
            return Head(revision, await self.applier.config_of(revision))

    async def change(
        self,
        call: Call,
        edit: Edit,
        *,
        origin: str = "api",
        reason: str = "",
        lines: bool = False,
        then: Callable[[int], None] | None = None,
        from_history: bool = False,
    ) -> Response:
        """Make a change. `reason` applies if the caller gives none.

        `lines`: whether the lines of the candidate are those of the body. `then` is called with the
        number of the revision that makes the change. `from_history`: the text is that of an earlier
        revision, not of the caller. Raises ProblemError.
        """
        query = call.query
        assert isinstance(query, WriteQuery)
        if not query.dry_run:
            self._check_writable()
        newer = 0
        async with self._changes.turn():
            for _ in range(MAX_ATTEMPTS):
                head = await self.head()
                number = head.revision.number
                expected_revision(call.header("if-match"), number)
                candidate = await self._candidate(
                    head, edit, query, lines, from_history=from_history, dry_run=query.dry_run
                )
                if query.dry_run or candidate.text == head.text:
                    return _result(candidate, number, dry_run=query.dry_run)
                try:
                    with store_problems():
                        revision = await self.applier.apply(
                            candidate,
                            author=call.principal.name,
                            reason=query.reason or reason,
                            origin=origin,
                            expected=number,
                            nodes=query.nodes,
                        )
                except ConflictError as error:
                    newer = number if error.head is None else error.head.number
                    if call.header("if-match") is not None:
                        raise conflict(newer) from None
                    continue
                if then is not None:
                    then(revision.number)
                return _result(candidate, revision.number, dry_run=False)
        raise conflict(newer)

    async def check(self, call: Call, edit: Edit, *, lines: bool) -> tuple[Candidate, Head]:
        """Check the config of a request against the head. Raises ProblemError.

        What a reader sends does not let the control plane use its own rights or run an Envoy.
        """
        query, role = call.query, call.principal.role
        assert isinstance(query, CheckQuery)
        operator = role.includes(Role.OPERATOR)
        if query.strict and not operator:
            raise ProblemError(Reason.ROLE_REQUIRED, f"strict needs the role {Role.OPERATOR}")
        async with (self._changes if operator else self._of_readers).turn():
            head = await self.head()
            candidate = await self._candidate(head, edit, query, lines, ask=operator, dry_run=True)
            return candidate, head

    async def _candidate(
        self,
        head: Head,
        edit: Edit,
        query: CheckQuery,
        lines: bool,
        *,
        from_history: bool = False,
        ask: bool = True,
        dry_run: bool,
    ) -> Candidate:
        """A checked candidate. Raises ProblemError."""
        try:
            text = await asyncio.to_thread(edit, head)
            with store_problems():
                return await self.applier.check(
                    text,
                    base=head.revision,
                    by_api=not from_history,
                    checks=(check_with_envoy,) if query.strict else (),
                    allow_disruption=isinstance(query, WriteQuery) and query.allow_disruption,
                    ask=ask,
                    dry_run=dry_run,
                )
        except ConfigError as error:
            raise invalid_config(error, lines=lines) from None
        except (NoEnvoyError, StrictCheckError) as error:
            raise ProblemError(Reason.STRICT_UNAVAILABLE, str(error)) from None

    def _check_writable(self) -> None:
        try:
            self.applier.check_writable()
        except FileSourceError as error:
            raise ProblemError(Reason.FILE_SOURCE, str(error)) from None


@contextmanager
def store_problems() -> Iterator[None]:
    """Turns failures of the store into problem documents. A conflict is no failure."""
    try:
        yield
    except ConflictError:
        raise
    except StoreError as error:
        raise ProblemError(Reason.STORE_UNAVAILABLE, str(error)) from None


def _result(candidate: Candidate, revision: int, *, dry_run: bool) -> Response:
    result = ChangeResult.of(candidate, revision).model_copy(update={"dry_run": dry_run})
    headers = {"etag": entity_tag(revision)}
    return Response(result.model_dump_json(), headers=headers, media_type=JSON)
