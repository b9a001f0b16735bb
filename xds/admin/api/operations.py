"""The frame of the admin API: what an operation is, and how a request becomes a call of it.

The routes and the OpenAPI document (`xds.admin.api.openapi`) are made from the same operations.
"""

import asyncio
import logging
import re
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from sluice.http.access import AccessGuard, Principal, Role, principal_of
from sluice.http.hosts import HttpEndpoint
from sluice.printable import printable
from xds.admin.api.body_room import FREE, MAX_BODY, BodyRoom
from xds.admin.api.json_body import MAX_INPUT_VALUES, read_json
from xds.admin.api.problems import ProblemError, Reason

log = logging.getLogger(__name__)

Method = Literal["GET", "PUT", "PATCH", "POST", "DELETE"]
M = TypeVar("M", bound=BaseModel)

JSON: Final = "application/json"
YAML: Final = "application/yaml"
MERGE_PATCH: Final = "application/merge-patch+json"
EVENT_STREAM: Final = "text/event-stream"

MAX_PARAMETERS: Final = 100
"""Parameters of a query that are read. No operation has so many."""

MAX_QUOTED: Final = 60
"""Characters of a name of the request that a problem document quotes."""


class Query(BaseModel):
    """Base of the query parameters of an operation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoQuery(Query):
    """An operation without query parameters."""


class Input(BaseModel):
    """Base of a body in JSON with fixed members."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True, slots=True)
class Body:
    """The body of requests, in one of these media types; the first is the usual one.

    `schema` is None for a body that is a config or a part of it, which the config's own schema
    checks.
    """

    media_types: tuple[str, ...]
    description: str
    schema: type[BaseModel] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One request of an operation. `media_type` is that of the body; empty without a body."""

    request: Request
    principal: Principal
    path: Mapping[str, str]
    query: Query
    media_type: str
    body: bytes = field(repr=False)  # it may hold secrets

    def header(self, name: str) -> str | None:
        """The value of a header; several are joined by commas (RFC 9110 section 5.3)."""
        values = self.request.headers.getlist(name)
        return ", ".join(values) if values else None

    def input(self, schema: type[M]) -> M:
        """The body as JSON with fixed members. Raises ProblemError."""
        try:
            return schema.model_validate(read_json(self.body, MAX_INPUT_VALUES))
        except ValidationError as error:
            raise ProblemError(Reason.INVALID_BODY, _first_error(error)) from None

    def text(self) -> str:
        """The body as text. Raises ProblemError."""
        try:
            return self.body.decode()
        except UnicodeDecodeError:
            raise ProblemError(Reason.INVALID_BODY, "the body is not UTF-8 text") from None


_OF_BODY: Final = (
    Reason.INVALID_BODY,
    Reason.REQUEST_TIMEOUT,
    Reason.BODY_TOO_LARGE,
    Reason.UNSUPPORTED_MEDIA_TYPE,
)

Result = BaseModel | Response


@dataclass(frozen=True, slots=True)
class Deferred:
    """A result that takes long to make, because it has a whole config.

    `make` runs in a thread: nodes must not wait for it. It may raise ProblemError.
    """

    make: Callable[[], Result] = field(repr=False)


Handler = Callable[[Call], Awaitable[Result | Deferred]]


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path.

    `role` is None if everyone may call it. `response` is the schema of a successful response; None
    for one that is a part of the config or no JSON. `headers`: those that it reads, with their
    description. `media_types`: those of the response.
    """

    method: Method
    path: str
    role: Role | None
    summary: str
    handler: Handler
    response: type[BaseModel] | None
    query: type[Query] = NoQuery
    body: Body | None = None
    errors: tuple[Reason, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    media_types: tuple[str, ...] = (JSON,)
    description: str = ""

    @property
    def all_errors(self) -> tuple[Reason, ...]:
        """The reasons of its refusals, with those of the frame."""
        of_query = () if self.query is NoQuery else (Reason.INVALID_QUERY,)
        of_body = () if self.body is None else _OF_BODY
        return (*of_query, *of_body, *self.errors)


_Turns = Mapping[Role, asyncio.Lock]


def routes(operations: Sequence[Operation], guard: AccessGuard) -> list[Route]:
    """One route for each path, in the order of the operations."""
    room = BodyRoom()
    # One after the other, so that many readers take little time and memory from operators.
    turns = {role: asyncio.Lock() for role in Role}
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    return [
        Route(path, _endpoint(methods, guard, room, turns), methods=ALL_METHODS)
        for path, methods in by_path.items()
    ]


ALL_METHODS: Final = ("GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE")
"""Every method gets to the endpoint, which answers 405 with a problem document."""


def _endpoint(
    methods: Mapping[str, Operation], guard: AccessGuard, room: BodyRoom, turns: _Turns
) -> HttpEndpoint:
    guarded = {
        method: _with_problems(_run(operation, room, turns))
        if operation.role is None
        else guard.protect(_with_problems(_run(operation, room, turns)), operation.role)
        for method, operation in methods.items()
    }
    if "GET" in guarded:
        guarded["HEAD"] = guarded["GET"]
    refused = guard.protect(_with_problems(_not_allowed(guarded)), Role.READER)

    async def endpoint(request: Request) -> Response:
        return await guarded.get(request.method, refused)(request)

    return endpoint


def _not_allowed(methods: Mapping[str, object]) -> HttpEndpoint:
    allowed = ", ".join(sorted(methods))

    async def refuse(request: Request) -> Response:
        detail = f"{request.method} is not allowed here; allowed: {allowed}"
        raise ProblemError(Reason.METHOD_NOT_ALLOWED, detail, headers={"allow": allowed})

    return refuse


def unknown_path(guard: AccessGuard) -> HttpEndpoint:
    """The endpoint of every path of the API that does not exist."""

    async def refuse(_: Request) -> Response:
        detail = "there is no such resource; GET /v1/openapi.json describes those that exist"
        raise ProblemError(Reason.NOT_FOUND, detail)

    return guard.protect(_with_problems(refuse), Role.READER)


def _run(operation: Operation, room: BodyRoom, turns: _Turns) -> HttpEndpoint:
    async def run(request: Request) -> Response:
        query = _query(operation.query, request)
        media_type = _media_type(operation, request)
        principal = _ANYONE if operation.role is None else principal_of(request)
        path = {name: str(value) for name, value in request.path_params.items()}
        with room.share(reader=not principal.role.includes(Role.OPERATOR)) as share:
            body = await share.read(request, MAX_BODY if operation.body is not None else FREE)
            if body and operation.body is None:
                raise ProblemError(Reason.INVALID_BODY, "this operation has no body")
            call = Call(request, principal, path, query, media_type, body)
            result = await operation.handler(call)
        if not isinstance(result, Deferred):
            return _response(result)
        async with turns[principal.role]:
            return await asyncio.to_thread(lambda: _response(result.make()))

    return run


def _response(result: Result) -> Response:
    if isinstance(result, Response):
        return result
    return Response(result.model_dump_json(), media_type=JSON)


_ANYONE: Final = Principal("anonymous", Role.READER)


def _with_problems(endpoint: HttpEndpoint) -> HttpEndpoint:
    """Turns exceptions into problem documents. Their text may hold secrets, and is not logged."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ProblemError as error:
            return error.response()
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:
            name, path = type(error).__name__, printable(request.url.path, MAX_QUOTED)
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("%s %s: unexpected %s at\n%s", request.method, path, name, frames)
            detail = f"the control plane failed ({name}); its log says where"
            return ProblemError(Reason.INTERNAL_ERROR, detail).response()

    return answered


def _query(schema: type[Query], request: Request) -> Query:
    values: dict[str, str] = {}
    items = request.query_params.multi_items()
    if len(items) > MAX_PARAMETERS:
        raise ProblemError(Reason.INVALID_QUERY, f"more than {MAX_PARAMETERS} parameters")
    for name, value in items:
        if name in values:
            raise ProblemError(Reason.INVALID_QUERY, f"{quoted(name)} is given twice")
        values[name] = value
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise ProblemError(Reason.INVALID_QUERY, _first_error(error)) from None


def _media_type(operation: Operation, request: Request) -> str:
    """The media type of the body. Raises ProblemError if the operation does not take it."""
    if operation.body is None:
        return ""
    accepted = operation.body.media_types
    encoding = request.headers.get("content-encoding", "identity")
    given = request.headers.getlist("content-type")
    media_type, _, parameters = (given[0] if len(given) == 1 else "").partition(";")
    media_type = media_type.strip().lower()
    charset = parameters.replace(" ", "").replace('"', "").lower()
    known = media_type in accepted and charset in ("", "charset=utf-8")
    if known and encoding.lower() == "identity":
        return media_type
    named = ", ".join(accepted)
    header = "accept-patch" if operation.method == "PATCH" else "accept"
    detail = f"send the body as {named}, in UTF-8 and without content-encoding"
    raise ProblemError(Reason.UNSUPPORTED_MEDIA_TYPE, detail, headers={header: named})


def accepted_type(call: Call, offered: Sequence[str]) -> str:
    """The media type of the response, by `Accept` (RFC 9110 section 12.5.1); the first if equal.

    Raises ProblemError if none is acceptable.
    """
    accept = call.header("accept")
    if accept is None:
        return offered[0]
    qualities = [_quality(accept, media_type) for media_type in offered]
    best = max(qualities)
    if best == 0:
        detail = f"this resource exists as {' and '.join(offered)}"
        raise ProblemError(Reason.NOT_ACCEPTABLE, detail)
    return offered[qualities.index(best)]


def _quality(accept: str, media_type: str) -> float:
    """The weight of a media type: that of the most specific range that matches it."""
    ranges = [media_type, media_type.partition("/")[0] + "/*", "*/*"]
    found: dict[str, float] = {}
    for part in accept.split(","):
        name, *parameters = (each.strip().lower() for each in part.split(";"))
        weights = [each[2:] for each in parameters if each.startswith("q=")]
        found[name] = _weight(weights[0]) if weights else 1.0
    return next((found[each] for each in ranges if each in found), 0.0)


def _weight(text: str) -> float:
    return float(text) if re.fullmatch(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", text) else 0.0


def quoted(name: str) -> str:
    """A name of the request, for the detail of a problem document."""
    return f"'{printable(name, MAX_QUOTED)}'"


def _first_error(error: ValidationError) -> str:
    """The first error of query or body, without its value."""
    detail = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(printable(str(part), MAX_QUOTED) for part in detail["loc"])
    more = error.error_count() - 1
    text = f"{place}: {detail['msg']}" if place else detail["msg"]
    return f"{text} (and {more} more errors)" if more else text
