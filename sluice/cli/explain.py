"""`sluice explain`: what the running policy would do with a request, stage by stage, and why."""

import argparse
import asyncio
import os
import socket
import time
from http.client import HTTPException
from pathlib import Path

from extproc.decision import Admission, Request, explain
from extproc.decision.request import join_headers
from extproc.policy.compiled import Policy, compile_policy
from extproc.policy.subscriber import fetch_policy
from protos.base_pb2 import Node
from sluice.cli.commands import CommandError, Subcommands, command
from sluice.config import GatewayConfig, PolicyDocument, policy_document
from sluice.config.load import load
from sluice.keys.fetch import fetch_document
from sluice.keys.key_set import KeySet

TIMEOUT = 5.0


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    parser = command(
        commands, "explain", _explain, "show what the running policy makes of a request, and why"
    )
    parser.add_argument("path", metavar="PATH", help="the request's path")
    parser.add_argument("-X", "--method", default="POST", help="the method")
    parser.add_argument(
        "-H", "--header", action="append", default=[], type=_header, metavar="NAME: VALUE",
        help="a header; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--xds", default=GatewayConfig().control_plane.xds, help="the control plane's xDS address"
    )
    parser.add_argument("--config", help="explain by this config file, not by a running gateway")


def _header(text: str) -> tuple[str, bytes]:
    name, colon, value = text.partition(":")
    if not name or not colon:
        raise argparse.ArgumentTypeError("write NAME: VALUE")
    return name.strip().lower(), value.strip().encode()


def _explain(options: argparse.Namespace) -> int:
    try:
        policy = asyncio.run(_policy(options))
    except (ValueError, OSError, HTTPException) as error:
        reason = str(error) or "it does not answer"
        source = options.config or options.xds
        raise CommandError(f"no policy from {source}: {reason}") from error
    decision, reports = explain(policy, _request(options))
    print(f"policy {policy.version}")
    for report in reports:
        print(f"{'pass' if report.passed else 'REFUSE':<7}{report.stage:<13}{report.explanation}")
    if isinstance(decision, Admission):
        print(f"-> {decision.target.cluster} ({decision.reason})")
    else:
        print(f"-> {decision.status} ({decision.reason})")
    return 0


async def _policy(options: argparse.Namespace) -> Policy:
    policy = compile_policy(await _document(options))
    # Keys behind a jwks_uri are not part of the policy: each worker fetches them, and so do we.
    for issuer in policy.authenticator.auth.issuers:
        if issuer.jwks_uri is not None:
            document = await fetch_document(issuer.jwks_uri)
            policy.authenticator.replace_keys(issuer.issuer, KeySet.parse(document))
    return policy


async def _document(options: argparse.Namespace) -> PolicyDocument:
    if options.config is not None:
        config = load(options.config)
        return policy_document(config, Path(options.config).parent)
    async with asyncio.timeout(TIMEOUT):
        return await fetch_policy(
            options.xds, Node(id=f"explain-{socket.gethostname()}-{os.getpid()}")
        )


def _request(options: argparse.Namespace) -> Request:
    headers = join_headers(
        [
            (":method", options.method.encode()),
            (":path", options.path.encode()),
            *options.header,
        ]
    )
    has_body = headers.get("content-length", b"0") != b"0" or "content-type" in headers
    return Request(headers, has_body, time.time())
