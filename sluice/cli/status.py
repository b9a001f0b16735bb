"""`sluice status`: what a running gateway is doing.

The control plane knows versions and nodes, the callout how the breakers stand. Without the first
there is no status; without the second it says so.
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

TIMEOUT = 5.0
MAX_STATUS = 64 << 20
MAX_REFUSAL = 500
"""Bytes of an answer that is no status."""

# Any: JSON. The control plane's status has the schema `xds.admin.status.Status`. The one shown has
# `extproc.telemetry.status.CalloutStatus`, with a URL and an error, in place of its address.
Status = dict[str, Any]

_HERE = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::")  # noqa: S104 (compared, not bound)


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    status = command(
        commands, "status", _status, "show the version in force, every node, and every breaker"
    )
    status.add_argument(
        "--url", default=f"http://{GatewayConfig().control_plane.http}", help="the control plane"
    )
    status.add_argument(
        "--callout", metavar="URL",
        help="the callout's metrics, where they are not at the address that the config has",
    )  # fmt: skip
    status.add_argument("--json", action="store_true", help="print the whole status as JSON")


def _status(options: argparse.Namespace) -> int:
    for option in ("url", "callout"):
        if not (getattr(options, option) or "http://").startswith(("http://", "https://")):
            raise UsageError(f"--{option} is http:// or https://")
    try:
        status = _fetch(options.url, "version")
    except (OSError, ValueError) as error:
        raise CommandError(f"no control plane at {options.url}: {_why(error)}") from error
    status["callout"] = _callout(options.callout or _callout_of(status, options.url))
    print(json.dumps(status, indent=2) if options.json else describe(status))
    return 0 if status["error"] is None else 1


def _callout(url: str | None) -> Status:
    """What the callout says; where it does not answer, why."""
    unknown: Status = {"url": url, "breakers": [], "unprotected": 0}
    if url is None:
        return {**unknown, "error": "the control plane does not say where; name it by --callout"}
    try:
        return {"url": url, "error": None, **_fetch(url, "breakers")}
    except (OSError, ValueError) as error:
        return {**unknown, "error": _why(error)}


def _callout_of(status: Status, url: str) -> str | None:
    """The URL of its callout; None where a control plane, which may be older, has no word of it."""
    return _seen_from(url, status["callout"]) if "callout" in status else None


def _fetch(base: str, member: str) -> Status:
    """`/v1/status` below a URL.

    Raises OSError where nobody answers, ValueError for another answer, with what it says.
    """
    url = f"{base.rstrip('/')}/v1/status"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310 (an http URL)
            found: object = json.loads(answer.read(MAX_STATUS))
    except urllib.error.HTTPError as error:
        raise ValueError(_refusal(error)) from error
    except HTTPException as error:
        raise ValueError(f"no status: {error}") from error
    if not isinstance(found, dict) or member not in found:
        raise ValueError("no status: something else answers there")
    return found


def _refusal(error: urllib.error.HTTPError) -> str:
    """What an answer that is no status says, in one line: it may name the remedy."""
    try:
        said = " ".join(error.read(MAX_REFUSAL).decode(errors="replace").split())
    except (OSError, HTTPException):
        said = ""
    return f"{error.code}: {said if said and said.isprintable() else error.reason}"


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", error))


def _seen_from(url: str, address: str) -> str:
    """The URL of an address in the config of the control plane at `url`.

    A loopback address, or any address, is one of the control plane's machine, not of this one.
    """
    host, port = split_host_port(address)
    if host in _HERE:
        host = urlsplit(url).hostname or host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def describe(status: Status) -> str:
    """The status for people: what is in force, what is wrong, each node, and each breaker."""
    step = "in_sync" if status["in_sync"] else f"under way: {status['step']}"
    lines = [f"version   {status['version'] or 'none'} ({step})", f"config    {status['config']}"]
    if status["error"] is not None:
        lines.append("error     the latest change is not in force:")
        lines += [f"          {line}" for line in status["error"].splitlines()]
    lines += [f"silent    {node} did not answer the last push" for node in status["unresponsive"]]
    lines += [
        f"restart   {key} takes effect at the next start" for key in status["restart_required"]
    ]
    return "\n".join([*lines, *_nodes(status["nodes"]), *_breakers(status["callout"])])


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


def _breakers(callout: Status) -> Iterator[str]:
    if callout["error"] is not None:
        where = "" if callout["url"] is None else f"no callout at {callout['url']}: "
        yield from ("", f"breakers  unknown: {where}{callout['error']}")
        return
    if callout["breakers"]:
        yield from ("", f"{'MODEL/VERSION':<28}{'BREAKER':<10}{'ERRORS':<10}REQUESTS")
    for breaker in callout["breakers"]:
        version = f"{breaker['model']}/{breaker['version']}"
        rate = breaker["error_rate"]
        errors = "-" if rate is None else f"{rate:.1%}"
        yield f"{version:<28}{breaker['state']:<10}{errors:<10}{breaker['requests']}"
    if callout["unprotected"]:
        yield f"breakers  {callout['unprotected']} versions found no room for one"
