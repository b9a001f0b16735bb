"""Reads the policy that decides: from the control plane of a running gateway, or from a file."""

import asyncio
import os
import socket
import time
from dataclasses import dataclass

from extproc.auth import Authenticator
from extproc.policy.compiled import Policy, compile_policy
from extproc.policy.subscriber import fetch_policy
from protos.base_pb2 import Node
from sluice.cli.commands import CommandError
from sluice.cli.explain.source import NoGateway, RunningGateway
from sluice.config import JwtIssuer, PolicyDocument, policy_document
from sluice.config.load import load
from sluice.keys.fetch import FetchError, fetch_document
from sluice.keys.key_set import KeySet, KeySetError

TIMEOUT = 5.0
"""Seconds for the policy to arrive."""


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """A policy, its compiled form with the key sets that could be fetched, and notes on others."""

    document: PolicyDocument
    policy: Policy
    notes: tuple[str, ...]


async def read_policy(gateway: RunningGateway | NoGateway) -> ReadPolicy:
    """Read the policy.

    Raises ConfigError for an invalid config, and CommandError if the policy cannot be fetched.
    """
    try:
        document = await _document(gateway)
        policy = compile_policy(document)
    except (ValueError, OSError) as error:
        place = gateway.config if isinstance(gateway, NoGateway) else gateway.xds
        reason = str(error) or "no response in time"
        raise CommandError(f"no policy from {place}: {reason}") from error
    return ReadPolicy(document, policy, await _fetch_key_sets(policy.authenticator))


async def _document(gateway: RunningGateway | NoGateway) -> PolicyDocument:
    if isinstance(gateway, NoGateway):
        return policy_document(load(gateway.config), gateway.config.parent)
    async with asyncio.timeout(TIMEOUT):
        node = Node(id=f"explain-{socket.gethostname()}-{os.getpid()}")
        return await fetch_policy(gateway.xds, node)


async def _fetch_key_sets(authenticator: Authenticator) -> tuple[str, ...]:
    """Fetch the key sets of each `jwks_uri`, as each worker does: a policy does not have them.

    Without its key set, an issuer's tokens are refused. Returns a note on each set that is missing.
    """
    remote = [issuer for issuer in authenticator.auth.issuers if issuer.jwks_uri is not None]
    notes = await asyncio.gather(*(_fetch_keys(authenticator, each) for each in remote))
    return tuple(note for note in notes if note is not None)


async def _fetch_keys(authenticator: Authenticator, issuer: JwtIssuer) -> str | None:
    assert issuer.jwks_uri is not None
    try:
        keys = KeySet.parse(await fetch_document(issuer.jwks_uri))
    except (FetchError, KeySetError) as error:
        return (
            f"the key set of {issuer.issuer} cannot be fetched here: {error}; a worker that has it "
            "decides with it (see sluice status)"
        )
    authenticator.replace_keys(issuer.issuer, keys, time.monotonic())
    return None
