"""`sluice status`: what a running gateway is doing."""

import argparse
import json
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any

from sluice.cli.commands import EXIT_USAGE, Subcommands, command
from sluice.config import GatewayConfig

TIMEOUT = 5.0
MAX_STATUS = 64 << 20

# Any: the status is JSON of the control plane's, whose schema is `xds.status.Status`.
Status = dict[str, Any]


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    status = command(commands, "status", _status, "show the version in force and every node")
    status.add_argument(
        "--url", default=f"http://{GatewayConfig().control_plane.http}", help="the control plane"
    )
    status.add_argument("--json", action="store_true", help="print the whole status as JSON")


def _status(options: argparse.Namespace) -> int:
    url = f"{options.url.rstrip('/')}/v1/status"
    if not url.startswith(("http://", "https://")):
        print("sluice status: --url is http:// or https://", file=sys.stderr)
        return EXIT_USAGE
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310 (checked above)
            status: Status = json.loads(answer.read(MAX_STATUS))
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        print(f"sluice status: no control plane at {options.url}: {reason}", file=sys.stderr)
        return 1
    print(json.dumps(status, indent=2) if options.json else describe(status))
    return 0 if status["error"] is None else 1


def describe(status: Status) -> str:
    """The status for people: what is in force, what is wrong, and one line for each node."""
    step = "settled" if status["settled"] else f"under way: {status['step']}"
    lines = [f"version   {status['version']} ({step})", f"config    {status['config']}"]
    if status["error"] is not None:
        lines.append("error     the latest change is not in force:")
        lines += [f"          {line}" for line in status["error"].splitlines()]
    lines += [f"late      {node} did not answer the last push" for node in status["late"]]
    lines += [f"restart   {key} takes effect at the next start" for key in status["at_next_start"]]
    lines += ["", f"{'NODE':<28}{'KIND':<10}{'SINCE':<10}ACCEPTED"]
    for node in status["nodes"]:
        since = datetime.fromtimestamp(node["connected_at"], UTC).astimezone().strftime("%H:%M:%S")
        acked = " ".join(f"{kind}={t['acked'] or '-'}" for kind, t in node["types"].items())
        lines.append(f"{node['id']:<28}{node['kind']:<10}{since:<10}{acked}")
        lines += [
            f"{'':<28}refused {kind} {t['nacked']}: {t['reason']}"
            for kind, t in node["types"].items()
            if t["nacked"] is not None
        ]
    return "\n".join(lines)
