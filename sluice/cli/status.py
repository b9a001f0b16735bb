"""`sluice status`: the state of a running gateway.

The control plane reports versions, nodes, what the Envoys see, traffic and breakers, the callout
reports workers and key sets. If the control plane does not respond, the command fails. If the
callout does not respond, the command prints why its workers are unknown. With many models, it
prints only the endpoints and breakers that need attention, and the traffic of the versions with the
most errors and requests.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator

from sluice.cli.commands import CommandError, Subcommands, UsageError, command
from sluice.cli.convergence import stage_text
from sluice.cli.endpoints import clock_time, endpoint_blocks
from sluice.cli.exit_status import ExitStatus
from sluice.cli.gateway import (
    GatewayAddress,
    address_near,
    callout_option,
    config_argument,
    control_plane,
    control_plane_option,
    control_plane_status,
    describe_no_answer,
    no_control_plane,
)
from sluice.cli.output import (
    Block,
    Cell,
    Field,
    Line,
    Row,
    Style,
    Table,
    View,
    output_option,
    plain,
    rendered,
    show,
    terminal,
)
from sluice.cli.streams import stream_blocks
from sluice.config.errors import Problem
from sluice.http.client import NoAnswerError, Status, fetch_status, reading_status
from sluice.http.credentials import Credentials, CredentialsError

WATCH_INTERVAL = 2.0
"""Seconds between two statuses of `--watch`."""

MAX_STAGED = 5
"""Staged Envoys that are named."""

MAX_TRAFFIC = 10
"""Versions whose traffic is shown: the rest of a screen is for what needs attention."""

_STYLES: dict[str, Style] = {
    "running": "good", "closed": "good", "usable": "good",
    "starting": "warn", "silent": "warn", "reduced": "warn",
    "hung": "bad", "down": "bad", "open": "bad", "expired": "bad", "missing": "bad",
}  # fmt: skip
"""Colours of the states of workers, breakers and key sets."""


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
    output_option(status)
    status.add_argument(
        "--json", action="store_const", const="json", dest="output", help="the same as -o json"
    )
    status.add_argument(
        "--watch", action="store_true",
        help=f"show the status anew every {WATCH_INTERVAL:g} s, until Ctrl-C; with JSON, one line "
        "for each",
    )  # fmt: skip


def _status(options: argparse.Namespace) -> int:
    address = control_plane(options)
    if options.watch:
        return _watch(options, address)
    status, shown = _read(options, address)
    show(options.output, status, lambda: shown)
    return ExitStatus.OK if status["error"] is None else ExitStatus.FAILED


def _read(options: argparse.Namespace, address: GatewayAddress) -> tuple[Status, list[Block]]:
    """The status with that of the callout, and its view. Raises CommandError."""
    try:
        status = control_plane_status(address, "in_sync")
        with reading_status():
            scheme = "https" if status.get("callout_tls") else "http"
            near = address_near(address.url, status["callout"])
            callout = options.callout or f"{scheme}://{near}"
            status["callout"] = _callout(callout, address.credentials)
            shown = list(view(status))
            # Every line, because a member may have another type than the view expects.
            list(plain(shown))
    except NoAnswerError as error:
        raise no_control_plane(address, error) from error
    return status, shown


def _watch(options: argparse.Namespace, address: GatewayAddress) -> int:
    """Show the status until an interrupt. A control plane that does not answer is asked again."""
    if options.output == "yaml":
        raise UsageError("--watch prints a table or JSON")
    _read(options, address)
    if options.output == "table" and sys.stdout.isatty():
        from rich.live import Live

        with Live(console=terminal(), auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                live.update(rendered(_latest(options, address)[1]), refresh=True)
                time.sleep(WATCH_INTERVAL)
    while True:
        status, shown = _latest(options, address)
        lines = [json.dumps(status)] if options.output == "json" else [*plain(shown), ""]
        print(*lines, sep="\n", flush=True)
        time.sleep(WATCH_INTERVAL)


def _latest(options: argparse.Namespace, address: GatewayAddress) -> tuple[Status, View]:
    """The status, or why it is not known now."""
    try:
        return _read(options, address)
    except CommandError as error:
        return {"error": str(error)}, [Field("error", str(error), "bad")]


def _callout(url: str, credentials: Credentials) -> Status:
    """The status of the callout, with its URL. `error` is None, or says why it is not known."""
    try:
        status = fetch_status(url, "workers", credentials=credentials, proxy=True)
        found: Status = {"url": url, "error": None}
        return found | {name: status[name] for name in ("workers", "key_sets") if name in status}
    except (NoAnswerError, CredentialsError) as error:
        return {
            "url": url,
            "workers": [],
            "key_sets": [],
            "error": describe_no_answer("the callout", url, error)
            if isinstance(error, NoAnswerError)
            else str(error),
        }


def view(status: Status) -> Iterator[Block]:
    """The view of a status: version, error, nodes, endpoints, traffic, breakers, callout."""
    style: Style = "good" if status["in_sync"] and status["nodes"] else "warn"
    revision = f", revision {status['revision']}" if status.get("revision") else ""
    version = f"{status['version'] or 'none'}{revision}"
    yield Field("version", f"{version} ({_progress(status)})", style)
    yield Field("config", status["config"])
    yield from _stage(status.get("stage"))
    if status["error"] is not None:
        yield Field("error", "the latest change is not in force:", "bad")
        for line in status["error"].split("\n"):
            yield Field("", line, "bad")
    for each in status.get("warnings", []):
        yield Field("warning", str(Problem(**each)), "warn")
    for node in status["unresponsive"]:
        yield Field("no ACK", f"{node} did not respond to the last push", "warn")
    for key in status["restart_required"]:
        yield Field("restart", f"{key} takes effect at the next start", "warn")
    yield from _placement(status.get("placement"))
    yield from node_blocks(status)
    yield from endpoint_blocks(status.get("envoys", []))
    yield from _traffic(status.get("traffic", []))
    yield from stream_blocks(status.get("videos", []))
    yield from breaker_blocks(status["breakers"])
    yield from _callout_blocks(status["callout"])


def _stage(stage: Status | None) -> Iterator[Block]:
    """The version that only some Envoys have yet."""
    if stage is not None:
        revision = f", revision {stage['revision']}" if stage["revision"] else ""
        text = f"{stage['version']}{revision}, {stage_text(stage, MAX_STAGED)}"
        yield Field("stage", text, "warn")
        left = stage["remaining"]
        yield Field("", f"the other Envoys follow in {left:.0f} s, unless these are worse")


def _placement(placement: Status | None) -> Iterator[Block]:
    """Where requests are decided, and why not natively."""
    if placement is None or not (placement["native"] or placement["callout"]):
        return
    native = placement["native"]
    yield Field("native", f"Envoy alone decides requests of {native} {_models(native)}")
    for each in placement["callout"]:
        count, names = each["count"], each["models"]
        more = "" if count == len(names) else f" and {count - len(names)} others"
        text = f"{count} {_models(count)} ({', '.join(names)}{more}): {each['reason']}"
        yield Field("callout", text)


def _models(count: int) -> str:
    return "model" if count == 1 else "models"


def _progress(status: Status) -> str:
    """How far the push of the version is. Without nodes, no process follows the control plane."""
    if not status["in_sync"]:
        return f"under way: {status['step']}"
    if not status["nodes"]:
        return "no node is connected"
    return "in sync" if status.get("watched") is None else "in sync; its traffic is judged"


def node_blocks(status: Status) -> Iterator[Block]:
    """The nodes of a status of the control plane."""
    if not status["nodes"]:
        xds = status["xds"]
        text = f"none: no Envoy and no worker is connected to the xDS server {xds}."
        yield Field("nodes", text, "warn")
        text = "Those that run have another control plane of the gateway, or were started with"
        yield Field("", text, "warn")
        yield Field("", "another address, and need a restart", "warn")
        return
    answers = dict(_latest_answers(status))
    yield Line()
    rows = [_node(node, answers) for node in status["nodes"]]
    yield Table(("NODE", "KIND", "SINCE", "ANSWERED", "VERSION"), rows)


def _node(node: Status, answers: dict[tuple[str, str | int], float]) -> Row:
    age = answers.get((node["kind"], node["pid" if node["kind"] == "callout" else "id"]))
    answered = "-" if age is None else f"{age:.1f} s ago"
    since, version = clock_time(node["connected_at"]), node["version"] or "none"
    return Row((node["id"], node["kind"], since, answered, version), list(_node_notes(node)))


def _node_notes(node: Status) -> Iterator[str]:
    if node.get("variant") == "callout-only":
        yield f"the callout decides all its requests: {node['agent']} is too old"
    if node.get("group") is not None:
        yield f"group {node['group']}"
    for name, state in node["types"].items():
        if state["nacked"] is not None:
            yield f"{name}: rejected {state['nacked']}: {state['reason']}"
        elif not state["in_sync"]:
            yield f"{name}: not in sync, accepted {state['acked'] or 'none'}"


def _latest_answers(status: Status) -> Iterator[tuple[tuple[str, str | int], float]]:
    """Seconds since the latest answer of each Envoy, by node id, and of each worker, by pid."""
    for envoy in status.get("envoys", []):
        if envoy["node"] is not None:
            yield ("envoy", envoy["node"]), envoy["age"]
    for worker in status.get("callout", {}).get("workers", ()):
        if worker["pid"] is not None:
            yield ("callout", worker["pid"]), worker["silence"]


def _callout_blocks(callout: Status) -> Iterator[Block]:
    if callout["error"] is not None:
        yield Line()
        yield Field("callout", f"unknown: {callout['error']}", "warn")
        return
    yield from _workers(callout["workers"])
    yield from _key_sets(callout["key_sets"])


def _traffic(traffic: list[Status]) -> Iterator[Block]:
    """The requests of the last minute, of the versions with the most errors and requests."""
    if traffic:
        yield Line()
        yield Field("traffic", "in the last minute")
        columns = ("MODEL/VERSION", "REQUESTS", "ERRORS", "P50", "P99")
        yield Table(columns, [_version_traffic(each) for each in traffic[:MAX_TRAFFIC]])
    if len(traffic) > MAX_TRAFFIC:
        yield Line(f"and {len(traffic) - MAX_TRAFFIC} more: see --json")


def _version_traffic(version: Status) -> Row:
    requests, errors = str(version["requests"]), _percent(version["error_rate"])
    latencies = (_latency(version[name]) for name in ("p50", "p99"))
    incomplete = "incomplete: some Envoys or workers have not reported lately"
    notes = () if version["state"] == "current" else (incomplete,)
    return Row((_name(version), requests, errors, *latencies), notes)


def _latency(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _name(version: Status) -> str:
    return f"{version['model']}/{version['version']}"


def _workers(workers: list[Status]) -> Iterator[Block]:
    if workers:
        yield Line()
        yield Table(("WORKER", "STATE", "SILENCE", "PID"), [_worker(each) for each in workers])


def _worker(worker: Status) -> Row:
    running = worker["pid"] is not None
    silence, pid = (f"{worker['silence']:.1f} s", str(worker["pid"])) if running else ("-", "-")
    return Row((str(worker["worker"]), _state(worker["state"]), silence, pid))


def breaker_blocks(breakers: Status) -> Iterator[Block]:
    """The number of breakers in each state, and those that are not closed."""
    if not breakers["known"]:
        yield Line()
        yield Field("breakers", "unknown: no worker has reported lately", "warn")
        return
    states = Counter({"closed": breakers["closed"]})
    states.update(breaker["state"] for breaker in breakers["not_closed"])
    if states.total():
        counts = ", ".join(f"{count} {state}" for state, count in states.most_common() if count)
        yield Line()
        yield Field("breakers", counts)
    if breakers["not_closed"]:
        rows = [_breaker(breaker) for breaker in breakers["not_closed"]]
        yield Table(("MODEL/VERSION", "BREAKER", "ERRORS", "REQUESTS"), rows)
    if breakers["unprotected"]:
        count = breakers["unprotected"]
        text = f"{count} versions have no breaker: the shared table is full"
        yield Field("breakers", text, "warn")


def _breaker(breaker: Status) -> Row:
    errors = _percent(breaker["error_rate"])
    return Row((_name(breaker), _state(breaker["state"]), errors, str(breaker["requests"])))


def _key_sets(key_sets: list[Status]) -> Iterator[Block]:
    """The key set of each issuer with a `jwks_uri`."""
    if key_sets:
        columns = ("ISSUER", "KEY SET", "AGE", "LATEST FETCH")
        yield Line()
        yield Table(columns, [_key_set(each) for each in key_sets])


def _key_set(key_set: Status) -> Row:
    fetched = key_set["age"] is not None
    without_keys = "expired" if fetched else "missing"
    state = _state("usable" if key_set["usable"] else without_keys)
    age = f"{key_set['age']:.0f} s" if fetched else "-"
    fetch = "failed: " + ", ".join(key_set["failures"]) if key_set["failures"] else "ok"
    refused = "its tokens are refused until the key set has been fetched"
    return Row((key_set["issuer"], state, age, fetch), () if key_set["usable"] else (refused,))


def _state(name: str) -> Cell:
    return Cell(name, _STYLES.get(name, ""))
