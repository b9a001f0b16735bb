"""Reads the policy that decides: from the control plane of a gateway, or from a file."""

import asyncio
import os
import socket
import time
from dataclasses import dataclass

from extproc.auth import Authenticator
from extproc.policy.compiled import Policy, compile_policy
from extproc.policy.subscriber import fetch_policy
from protos.base_pb2 import Node
from sluice.config import JwtIssuer, PolicyDocument, policy_document
from sluice.config.load import load
from sluice.explain.source import NoGateway, PolicySource, RunningGateway, ServedPolicy
from sluice.keys.fetch import FetchError, fetch_document
from sluice.keys.key_set import KeySet, KeySetError

TIMEOUT = 5.0
"""Seconds for the policy to arrive."""


class NoPolicyError(Exception):
    """The policy cannot be read. The message says from where, and why."""


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """A policy, its compiled form with the key sets that could be fetched, and notes on others."""

    document: PolicyDocument
    policy: Policy
    notes: tuple[str, ...]


async def read_policy(gateway: PolicySource) -> ReadPolicy:
    """Read the policy.

    Raises ConfigError for an invalid config, and NoPolicyError if the policy cannot be fetched.
    """
    try:
        document = await _document(gateway)
        policy = await asyncio.to_thread(compile_policy, document)
    except (ValueError, OSError) as error:
        reason = str(error) or "no response in time"
        raise NoPolicyError(f"no policy from {_place(gateway)}: {reason}") from error
    return ReadPolicy(document, policy, await _fetch_key_sets(policy.authenticator))


async def _document(gateway: PolicySource) -> PolicyDocument:
    if isinstance(gateway, ServedPolicy):
        return gateway.document
    if isinstance(gateway, NoGateway):
        return policy_document(load(gateway.config), gateway.config.parent)
    async with asyncio.timeout(TIMEOUT):
        node = Node(id=f"explain-{socket.gethostname()}-{os.getpid()}")
        return await fetch_policy(gateway.xds, node, gateway.xds_credentials)


def _place(gateway: PolicySource) -> str:
    if isinstance(gateway, RunningGateway):
        return gateway.xds
    return str(gateway.config) if isinstance(gateway, NoGateway) else "this control plane"


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
