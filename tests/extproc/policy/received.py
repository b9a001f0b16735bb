"""Policies as workers receive them."""

from collections.abc import Collection

from extproc.policy.compiled import compile_policy
from extproc.policy.received import ReceivedPolicy
from extproc.protection import Protection
from sluice.config import PolicyDocument
from xds.resources.policy import PolicyCache
from xds.resources.stage import staged_policies


def resources(
    document: PolicyDocument, staged: PolicyDocument | None = None, nodes: Collection[str] = ()
) -> dict[str, bytes]:
    """A policy, and perhaps a staged one, as the control plane sends them: resources by name."""
    found = PolicyCache().resources(document)
    if staged is not None:
        found = {**found, **staged_policies(PolicyCache().resources(staged), nodes)}
    return {name: each.body for name, each in found.items()}


def received(
    document: PolicyDocument, staged: PolicyDocument | None = None, nodes: Collection[str] = ()
) -> ReceivedPolicy:
    """A policy, and perhaps a staged one, after the way from the control plane to a worker."""
    return ReceivedPolicy.read(resources(document, staged, nodes))


async def protect(
    protection: Protection, document: PolicyDocument, staged: PolicyDocument | None = None
) -> None:
    """Put the breakers and limits of a policy in force, and those of a staged one."""
    prepared = await protection.prepare(document.limits, None if staged is None else staged.limits)
    of_stage = {} if staged is None else compile_policy(staged).breakers
    protection.commit(prepared, compile_policy(document).breakers, of_stage)
