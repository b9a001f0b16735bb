"""`sluice status`: the state of a running gateway.

The control plane reports versions and nodes, the callout reports workers, breakers and key sets. If
the control plane does not respond, the command fails. If the callout does not respond, the command
prints why its workers and breakers are unknown.
"""

import argparse
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from sluice.cli.commands import CommandError, Subcommands, UsageError, command
from sluice.config import GatewayConfig
from sluice.config.values import split_host_port
from sluice.printable import printable

TIMEOUT = 5.0
MAX_STATUS = 64 << 20
MAX_ERROR_BODY = 500
"""Maximum bytes that are read from an error response."""

MAX_LINE = 5000
"""Maximum characters of a printed line: more than a node's reason for a rejection."""

# Any: JSON. The status of the control plane has the schema `xds.admin.status.Status`. In the
# printed status, `callout` has the schema `extproc.telemetry.status.CalloutStatus`, and in addition
# `url` and `error`.
Status = dict[str, Any]

_LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::")  # noqa: S104 (compared, not bound)


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    status = command(
        commands,
        "status",
        _status,
        "show the version in force, the nodes, the workers and the breakers",
    )
    status.add_argument(
        "--url",
        default=f"http://{GatewayConfig().control_plane.http}",
        help="URL of the control plane",
    )
    status.add_argument(
        "--callout", metavar="URL",
        help="URL of the callout's metrics endpoint; default: from the config of the control plane",
    )  # fmt: skip
    status.add_argument("--json", action="store_true", help="print the whole status as JSON")


def _status(options: argparse.Namespace) -> int:
    for option in ("url", "callout"):
        if not (getattr(options, option) or "http://").startswith(("http://", "https://")):
            raise UsageError(f"--{option} must start with http:// or https://")
    try:
        status = _fetch(options.url, "in_sync")
    except (OSError, ValueError) as error:
        raise CommandError(f"no control plane at {options.url}: {_reason(error)}") from error
    status["callout"] = _callout(options.callout or callout_url(options.url, status["callout"]))
    print(json.dumps(status, indent=2) if options.json else describe(status))
    return 0 if status["error"] is None else 1


def _callout(url: str) -> Status:
    """The status of the callout. `error` is None, or says why the status is not known."""
    try:
        return {"url": url, "error": None, **_fetch(url, "workers")}
    except (OSError, ValueError) as error:
        return {
            "url": url,
            "workers": [],
            "breakers": [],
            "unprotected": 0,
            "key_sets": [],
            "error": _reason(error),
        }


def _fetch(base: str, member: str) -> Status:
    """The response to `GET /v1/status`, which must have `member`.

    Raises OSError if there is no response, and ValueError if the response is not a status.
    """
    url = f"{base.rstrip('/')}/v1/status"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:  # noqa: S310 (an http URL)
            body = response.read(MAX_STATUS)
    except urllib.error.HTTPError as error:
        raise ValueError(_http_error(error)) from error
    except HTTPException as error:
        raise ValueError(f"the response is not HTTP: {error}") from error
    try:
        found: object = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict) or member not in found:
        raise ValueError("the response is not a status; check the URL")
    return found


def _http_error(error: urllib.error.HTTPError) -> str:
    """Status code and body of an error response, in one line. The body may say what to change."""
    try:
        body = " ".join(error.read(MAX_ERROR_BODY).decode(errors="replace").split())
    except (OSError, HTTPException):
        body = ""
    # The body and the reason may come from another server.
    return f"{error.code}: {body if body and body.isprintable() else error.reason}"


def _reason(error: Exception) -> str:
    return printable(str(getattr(error, "reason", error)), MAX_ERROR_BODY)


def callout_url(control_plane: str, address: str) -> str:
    """The URL of the callout, for its address in the config of the control plane.

    `control_plane` is the URL of the control plane. A loopback or wildcard address is an address of
    the control plane's host, which may be another host than the one that runs this command.
    """
    host, port = split_host_port(address)
    if host in _LOCAL_HOSTS:
        host = urlsplit(control_plane).hostname or host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def describe(status: Status) -> str:
    """The status as text: version, error, nodes, workers, breakers, and unusable key sets."""
    step = "in sync" if status["in_sync"] else f"under way: {status['step']}"
    lines = [f"version   {status['version'] or 'none'} ({step})", f"config    {status['config']}"]
    if status["error"] is not None:
        lines.append("error     the latest change is not in force:")
        lines += [f"          {line}" for line in status["error"].split("\n")]
    lines += [
        f"no ACK    {node} did not respond to the last push" for node in status["unresponsive"]
    ]
    lines += [
        f"restart   {key} takes effect at the next start" for key in status["restart_required"]
    ]
    lines += [*_nodes(status["nodes"]), *_callout_lines(status["callout"])]
    # The texts of nodes and errors may contain control sequences of terminals.
    return "\n".join(printable(line, MAX_LINE) for line in lines)


def _nodes(nodes: list[Status]) -> Iterator[str]:
    yield from ("", f"{'NODE':<28}{'KIND':<10}{'SINCE':<10}VERSION")
    for node in nodes:
        since = datetime.fromtimestamp(node["connected_at"], UTC).astimezone().strftime("%H:%M:%S")
        yield f"{node['id']:<28}{node['kind']:<10}{since:<10}{node['version'] or 'none'}"
        for name, state in node["types"].items():
            if state["nacked"] is not None:
                yield f"{'':<28}{name}: rejected {state['nacked']}: {state['reason']}"
            elif not state["in_sync"]:
                yield f"{'':<28}{name}: not in sync, accepted {state['acked'] or 'none'}"


def _callout_lines(callout: Status) -> Iterator[str]:
    if callout["error"] is not None:
        yield from ("", f"callout   unknown: no callout at {callout['url']}: {callout['error']}")
        return
    yield from _workers(callout["workers"])
    yield from _breakers(callout)
    yield from _key_sets(callout["key_sets"])


def _workers(workers: list[Status]) -> Iterator[str]:
    if workers:
        yield from ("", f"{'WORKER':<28}{'STATE':<10}{'SILENCE':<10}PID")
    for worker in workers:
        running = worker["pid"] is not None
        silence, pid = (f"{worker['silence']:.1f} s", worker["pid"]) if running else ("-", "-")
        yield f"{worker['worker']:<28}{worker['state']:<10}{silence:<10}{pid}"


def _breakers(callout: Status) -> Iterator[str]:
    if callout["breakers"]:
        yield from ("", f"{'MODEL/VERSION':<28}{'BREAKER':<10}{'ERRORS':<10}REQUESTS")
    for breaker in callout["breakers"]:
        version = f"{breaker['model']}/{breaker['version']}"
        rate = breaker["error_rate"]
        errors = "-" if rate is None else f"{rate:.1%}"
        yield f"{version:<28}{breaker['state']:<10}{errors:<10}{breaker['requests']}"
    if callout["unprotected"]:
        count = callout["unprotected"]
        yield f"breakers  {count} versions have no breaker: the shared table is full"


def _key_sets(key_sets: list[Status]) -> Iterator[str]:
    """The key sets that are not usable."""
    for key_set in key_sets:
        age = key_set["age"]
        fetched = "not fetched yet" if age is None else f"fetched {age:.0f} s ago"
        if not key_set["usable"]:
            yield f"keys      {key_set['issuer']}: its tokens are refused; key set {fetched}"
