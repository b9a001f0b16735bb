"""The admin API of a control plane, for commands: one request, or an error that says what to do."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode

from sluice.cli.commands import CommandError
from sluice.cli.exit_status import ExitStatus
from sluice.cli.gateway import NOT_ALLOWED_HINT, GatewayAddress, control_plane, no_control_plane
from sluice.fetch import Response, StatusError
from sluice.http.client import NoAnswerError, http_error, request, stream_lines
from sluice.http.credentials import CredentialsError
from sluice.http.events import ServerSentEvent, read_events

# Any: JSON. The control plane describes the schemas at /v1/openapi.json.
Data = dict[str, Any]

TIMEOUT: Final = 60.0
"""Seconds for a response. A change waits for others, and a large config takes a while to check."""

MAX_RESPONSE: Final = 64 << 20
"""Bytes of a response: more than the largest config."""

SILENCE: Final = 60.0
"""Seconds without a line of an event stream, which sends a comment every 15 s."""

MAX_EVENT_LINE: Final = 1 << 20
"""Bytes of a line of an event stream."""

JSON: Final = "application/json"
YAML: Final = "application/yaml"

_HINTS: Final = {
    "conflict": "see what has changed with `sluice history`, then run the command again",
    "file_source": "edit the file of the gateway, or start its control plane with --store "
    "sqlite:PATH",
    "no_steps": "write steps for the canary in the config; `sluice canary set` moves it by hand",
    "invalid_config": "correct the config and try again; with --dry-run, nothing changes",
    "unknown_model": "`sluice get models` lists the models",
    "unknown_version": "`sluice get models` lists the versions of each model",
    "unknown_canary": "`sluice canary status` lists the canaries",
    "unknown_endpoint": "`sluice get endpoints` lists the endpoints",
    "unknown_revision": "`sluice history` lists the revisions",
    "strict_unavailable": "install Envoy beside the control plane, or leave out --strict",
    "too_many_requests": "try again in a moment",
    "store_unavailable": "try again when the store responds; the log of the control plane says "
    "more",
}
"""What to do next, by the reason of a refusal."""

_STATUSES: Final = {
    "conflict": ExitStatus.CONFLICT,
    "file_source": ExitStatus.CONFLICT,
    "no_steps": ExitStatus.USAGE,
    "invalid_config": ExitStatus.USAGE,
    "unknown_model": ExitStatus.USAGE,
    "unknown_version": ExitStatus.USAGE,
    "unknown_canary": ExitStatus.USAGE,
    "unknown_endpoint": ExitStatus.USAGE,
    "unknown_revision": ExitStatus.USAGE,
}
"""The exit statuses of refusals, by reason; others are failures."""


class Api:
    """The admin API of one control plane. `source` names the text of a config in errors."""

    def __init__(self, address: GatewayAddress, source: str = "config") -> None:
        self.address = address
        self._source = source

    @classmethod
    def of(cls, options: argparse.Namespace, source: str = "config") -> "Api":
        """The API of the gateway that the options name."""
        return cls(control_plane(options), source)

    def get(self, *path: str, **query: object) -> Data:
        """A resource, by the segments of its path below `/v1`. Raises CommandError."""
        return self.send("GET", *path, query=query)

    def send(
        self,
        method: str,
        *path: str,
        body: bytes | None = None,
        media_type: str = JSON,
        query: Mapping[str, object] | None = None,
        if_match: int | None = None,
    ) -> Data:
        """The answer to a request as JSON. Raises CommandError.

        `if_match`: the revision that a change is based on; another one is a conflict.
        """
        headers = {"accept": JSON}
        if body is not None:
            headers["content-type"] = media_type
        if if_match is not None:
            headers["if-match"] = f'"{if_match}"'
        with self._answering():
            response = request(
                self._url(path, query or {}), TIMEOUT, MAX_RESPONSE, method=method, body=body,
                headers=headers, credentials=self.address.credentials, proxy=True,
            )  # fmt: skip
        if not response.is_success:
            raise self._refusal(response)
        return self._object(response.body)

    def events(self, last_id: str | None) -> Iterator[ServerSentEvent]:
        """The events after the one with an id, until the connection ends. Raises CommandError."""
        headers = {"accept": "text/event-stream"}
        if last_id is not None:
            headers["last-event-id"] = last_id
        try:
            with self._answering():
                lines = stream_lines(
                    self._url(("events",), {}), SILENCE, MAX_EVENT_LINE, headers=headers,
                    credentials=self.address.credentials, proxy=True,
                )  # fmt: skip
                yield from read_events(lines)
        except StatusError as error:
            raise self._refusal(error.response) from None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The code in the block reads an answer. Raises CommandError if it has other members."""
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise self._unexpected() from error

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except NoAnswerError as error:
            raise no_control_plane(self.address, error) from error
        except CredentialsError as error:
            raise CommandError(error, status=ExitStatus.NOT_ALLOWED) from error

    def _url(self, path: Sequence[str], query: Mapping[str, object]) -> str:
        segments = "/".join(quote(segment, safe="") for segment in path)
        given = {name: _text(value) for name, value in query.items() if value is not None}
        return f"{self.address.url.rstrip('/')}/v1/{segments}" + (
            f"?{urlencode(given)}" if given else ""
        )

    def _object(self, body: bytes) -> Data:
        try:
            found: object = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._unexpected()
        return found

    def _unexpected(self) -> CommandError:
        return CommandError(
            f"the control plane at {self.address.url} ({self.address.origin}) answered, but the "
            "response is not what this command expects",
            hint="check the URL, and that the control plane has the version of this command",
        )

    def _refusal(self, response: Response) -> CommandError:
        """The error of a problem document (RFC 9457), or of another error response."""
        place = f"the control plane at {self.address.url} ({self.address.origin})"
        try:
            problem = self._object(response.body)
            reason, detail = str(problem["reason"]), str(problem["detail"])
            errors = [self._problem(each) for each in problem.get("errors") or ()]
        except (CommandError, LookupError, TypeError, AttributeError):
            reason, detail, errors = "", "", []
        if response.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            text = f"{place} refused the request: {detail or http_error(response)}"
            return CommandError(text, hint=NOT_ALLOWED_HINT, status=ExitStatus.NOT_ALLOWED)
        if not reason:
            return CommandError(f"{place} answered {http_error(response)}")
        text = "\n".join(["the config is not valid:", *errors]) if errors else detail
        return CommandError(text, hint=_HINTS.get(reason), status=_STATUSES.get(reason))

    def _problem(self, error: Data) -> str:
        """One error of a config, as commands show those of files."""
        line = "" if error["line"] is None else f":{error['line']}"
        key = f"{error['key']}: " if error["key"] else ""
        return f"{self._source}{line}: {key}{error['detail']}"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
