"""`sluice status`: the state of a running gateway.

The control plane reports versions, nodes and what the Envoys see, the callout reports workers,
breakers and key sets. If the control plane does not respond, the command fails. If the callout does
not respond, the command prints why its workers and breakers are unknown. With many models, it
prints only the endpoints and breakers that need attention.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator

from sluice.cli.commands import Subcommands, command
from sluice.cli.endpoints import clock_time, endpoint_lines
from sluice.cli.gateway import (
    address_near,
    callout_option,
    config_argument,
    control_plane,
    control_plane_option,
    describe_no_answer,
    no_control_plane,
)
from sluice.config.errors import Problem
from sluice.http.client import NoAnswerError, Status, fetch_status, reading_status
from sluice.printable import printable

MAX_LINE = 5000
"""Maximum characters of a printed line: more than a node's reason for a rejection."""


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    status = command(
        commands,
        "status",
        _status,
        "show the version in force, the nodes, the endpoints, the workers and the breakers",
    )
    config_argument(status, "config of the gateway")
    control_plane_option(status, "--url")
    callout_option(status, "from the config of the control plane")
    status.add_argument("--json", action="store_true", help="print the whole status as JSON")


def _status(options: argparse.Namespace) -> int:
    address = control_plane(options)
    try:
        status = fetch_status(address.url, "in_sync", proxy=True)
        with reading_status():
            callout = options.callout or f"http://{address_near(address.url, status['callout'])}"
            status["callout"] = _callout(callout)
            text = json.dumps(status, indent=2) if options.json else describe(status)
            failed = status["error"] is not None
    except NoAnswerError as error:
        raise no_control_plane(address, error) from error
    print(text)
    return 1 if failed else 0


def _callout(url: str) -> Status:
    """The status of the callout, with its URL. `error` is None, or says why it is not known."""
    try:
        return {"url": url, "error": None, **fetch_status(url, "workers", proxy=True)}
    except NoAnswerError as error:
        return {
            "url": url,
            "workers": [],
            "breakers": [],
            "unprotected": 0,
            "key_sets": [],
            "error": describe_no_answer("the callout", url, error),
        }


def describe(status: Status) -> str:
    """The status as text: version, error, nodes, endpoints, workers, breakers and key sets."""
    version = f"{status['version'] or 'none'} ({_progress(status)})"
    lines = [f"version   {version}", f"config    {status['config']}"]
    if status["error"] is not None:
        lines.append("error     the latest change is not in force:")
        lines += [f"          {line}" for line in status["error"].split("\n")]
    lines += [f"warning   {Problem(**each)}" for each in status.get("warnings", [])]
    lines += [
        f"no ACK    {node} did not respond to the last push" for node in status["unresponsive"]
    ]
    lines += [
        f"restart   {key} takes effect at the next start" for key in status["restart_required"]
    ]
    lines += [
        *_placement(status.get("placement")),
        *_nodes(status),
        *endpoint_lines(status.get("envoys", [])),
        *_callout_lines(status["callout"]),
    ]
    # The texts of nodes and errors may contain control sequences of terminals.
    return "\n".join(printable(line, MAX_LINE) for line in lines)


def _placement(placement: Status | None) -> Iterator[str]:
    """Where requests are decided, and why not natively."""
    if placement is None or not (placement["native"] or placement["callout"]):
        return
    native = placement["native"]
    yield f"native    Envoy alone decides requests of {native} {_models(native)}"
    for each in placement["callout"]:
        count, names = each["count"], each["models"]
        more = "" if count == len(names) else f" and {count - len(names)} others"
        yield f"callout   {count} {_models(count)} ({', '.join(names)}{more}): {each['reason']}"


def _models(count: int) -> str:
    return "model" if count == 1 else "models"


def _progress(status: Status) -> str:
    """How far the push of the version is. Without nodes, no process follows the control plane."""
    if not status["in_sync"]:
        return f"under way: {status['step']}"
    return "in sync" if status["nodes"] else "no node is connected"


def _nodes(status: Status) -> Iterator[str]:
    if not status["nodes"]:
        xds = status["xds"]
        yield f"nodes     none: no Envoy and no worker is connected to the xDS server {xds}; those"
        yield "          that run were started with another address, and need a restart"
        return
    yield from ("", f"{'NODE':<28}{'KIND':<10}{'SINCE':<12}{'ANSWERED':<12}VERSION")
    answers = dict(_latest_answers(status))
    for node in status["nodes"]:
        age = answers.get((node["kind"], node["pid" if node["kind"] == "callout" else "id"]))
        answered = "-" if age is None else f"{age:.1f} s ago"
        since, version = clock_time(node["connected_at"]), node["version"] or "none"
        yield f"{node['id']:<28}{node['kind']:<10}{since:<12}{answered:<12}{version}"
        if node.get("variant") == "callout-only":
            yield f"{'':<28}the callout decides all its requests: {node['agent']} is too old"
        for name, state in node["types"].items():
            if state["nacked"] is not None:
                yield f"{'':<28}{name}: rejected {state['nacked']}: {state['reason']}"
            elif not state["in_sync"]:
                yield f"{'':<28}{name}: not in sync, accepted {state['acked'] or 'none'}"


def _latest_answers(status: Status) -> Iterator[tuple[tuple[str, str | int], float]]:
    """Seconds since the latest answer of each Envoy, by node id, and of each worker, by pid."""
    for envoy in status.get("envoys", []):
        if envoy["node"] is not None:
            yield ("envoy", envoy["node"]), envoy["age"]
    for worker in status["callout"].get("workers", ()):
        if worker["pid"] is not None:
            yield ("callout", worker["pid"]), worker["silence"]


def _callout_lines(callout: Status) -> Iterator[str]:
    if callout["error"] is not None:
        yield from ("", f"callout   unknown: {callout['error']}")
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
    """The number of breakers in each state, and those that are not closed."""
    if callout["breakers"]:
        states = Counter(breaker["state"] for breaker in callout["breakers"])
        counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
        yield from ("", f"breakers  {counts}")
    unusual = [breaker for breaker in callout["breakers"] if breaker["state"] != "closed"]
    if unusual:
        yield f"{'MODEL/VERSION':<28}{'BREAKER':<10}{'ERRORS':<10}REQUESTS"
    for breaker in unusual:
        version = f"{breaker['model']}/{breaker['version']}"
        rate = breaker["error_rate"]
        errors = "-" if rate is None else f"{rate:.1%}"
        yield f"{version:<28}{breaker['state']:<10}{errors:<10}{breaker['requests']}"
    if callout["unprotected"]:
        count = callout["unprotected"]
        yield f"breakers  {count} versions have no breaker: the shared table is full"


def _key_sets(key_sets: list[Status]) -> Iterator[str]:
    """The key set of each issuer with a `jwks_uri`."""
    if key_sets:
        yield from ("", f"{'ISSUER':<28}{'KEY SET':<10}{'AGE':<10}LATEST FETCH")
    for key_set in key_sets:
        fetched = key_set["age"] is not None
        without_keys = "expired" if fetched else "missing"
        state = "usable" if key_set["usable"] else without_keys
        age = f"{key_set['age']:.0f} s" if fetched else "-"
        fetch = "failed: " + ", ".join(key_set["failures"]) if key_set["failures"] else "ok"
        yield f"{key_set['issuer']:<28}{state:<10}{age:<10}{fetch}"
        if not key_set["usable"]:
            yield f"{'':<28}its tokens are refused until the key set has been fetched"
