"""Explains the decision on a request, with the policy of a running gateway or of a config file.

Separate from `sluice.cli.explain`, which must not import extproc.
"""

import asyncio
import os
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from extproc.decision import Admission, Request, explain
from extproc.decision.request import JoinedHeaders
from extproc.policy.compiled import Policy, compile_policy
from extproc.policy.subscriber import fetch_policy
from protos.base_pb2 import Node
from sluice.cli.commands import CommandError
from sluice.config import PolicyDocument, policy_document
from sluice.config.load import load
from sluice.keys.fetch import FetchError, fetch_document
from sluice.keys.key_set import KeySet, KeySetError

TIMEOUT = 5.0
"""Seconds for the policy to arrive."""


def explanation(
    xds: str, config: Path | None, headers: Sequence[tuple[str, bytes]]
) -> Iterator[str]:
    """The config version, the result of each stage and the decision, as lines of text.

    If `config` is None, the policy comes from the control plane at `xds`. Raises ConfigError for
    an invalid config, and CommandError when the policy or a key set cannot be fetched.
    """
    try:
        policy = asyncio.run(_policy(xds, config))
    except (ValueError, OSError) as error:
        raise CommandError(f"no policy from {config or xds}: {_reason(error)}") from error
    decision, reports = explain(policy, _request(headers))
    yield f"version {policy.version}"
    for report in reports:
        yield f"{'pass' if report.passed else 'REFUSE':<7}{report.stage:<13}{report.explanation}"
    outcome = decision.target.cluster if isinstance(decision, Admission) else decision.status
    yield f"-> {outcome} ({decision.reason})"


async def _policy(xds: str, config: Path | None) -> Policy:
    policy = compile_policy(await _document(xds, config))
    # A policy has no keys of a jwks_uri: each worker fetches them, and so does this command.
    for issuer in policy.authenticator.auth.issuers:
        if issuer.jwks_uri is not None:
            keys = await _fetch_keys(issuer.issuer, issuer.jwks_uri)
            policy.authenticator.replace_keys(issuer.issuer, keys, time.monotonic())
    return policy


async def _fetch_keys(issuer: str, uri: str) -> KeySet:
    try:
        return KeySet.parse(await fetch_document(uri))
    except (FetchError, KeySetError) as error:
        raise CommandError(f"no key set of {issuer}: {error}") from None


async def _document(xds: str, config: Path | None) -> PolicyDocument:
    if config is not None:
        return policy_document(load(config), config.parent)
    async with asyncio.timeout(TIMEOUT):
        return await fetch_policy(xds, Node(id=f"explain-{socket.gethostname()}-{os.getpid()}"))


def _reason(error: Exception) -> str:
    return str(error) or "no response in time"


def _request(headers: Sequence[tuple[str, bytes]]) -> Request:
    joined = JoinedHeaders(headers)
    has_body = joined.get("content-length", b"0") != b"0" or "content-type" in joined
    return Request(joined, has_body, time.time())
