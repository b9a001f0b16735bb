"""Reads the policy that decides: from the control plane of a running gateway, or from a file."""

import asyncio
import os
import socket
import time

from extproc.policy.compiled import Policy, compile_policy
from extproc.policy.subscriber import fetch_policy
from protos.base_pb2 import Node
from sluice.cli.commands import CommandError
from sluice.cli.explain.source import NoGateway, RunningGateway
from sluice.config import PolicyDocument, policy_document
from sluice.config.load import load
from sluice.keys.fetch import FetchError, fetch_document
from sluice.keys.key_set import KeySet, KeySetError

TIMEOUT = 5.0
"""Seconds for the policy to arrive."""


async def read_policy(gateway: RunningGateway | NoGateway) -> tuple[PolicyDocument, Policy]:
    """The policy, and its compiled form with all key sets.

    Raises ConfigError for an invalid config, and CommandError if the policy or a key set cannot be
    fetched.
    """
    try:
        document = await _document(gateway)
        return document, await _compiled(document)
    except (ValueError, OSError) as error:
        place = gateway.config if isinstance(gateway, NoGateway) else gateway.xds
        reason = str(error) or "no response in time"
        raise CommandError(f"no policy from {place}: {reason}") from error


async def _document(gateway: RunningGateway | NoGateway) -> PolicyDocument:
    if isinstance(gateway, NoGateway):
        return policy_document(load(gateway.config), gateway.config.parent)
    async with asyncio.timeout(TIMEOUT):
        node = Node(id=f"explain-{socket.gethostname()}-{os.getpid()}")
        return await fetch_policy(gateway.xds, node)


async def _compiled(document: PolicyDocument) -> Policy:
    policy = compile_policy(document)
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
