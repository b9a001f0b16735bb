"""Policies as workers receive them."""

from extproc.policy.compiled import compile_policy
from extproc.policy.received import ReceivedPolicy
from extproc.protection import Protection
from sluice.config import PolicyDocument
from xds.resources.policy import PolicyCache


def resources(document: PolicyDocument) -> dict[str, bytes]:
    """A policy as the control plane sends it: resources by name."""
    return {name: each.body for name, each in PolicyCache().resources(document).items()}


def received(document: PolicyDocument) -> ReceivedPolicy:
    """A policy after its way from the control plane to a worker."""
    return ReceivedPolicy.read(resources(document))


async def protect(protection: Protection, document: PolicyDocument) -> None:
    """Put the breakers and limits of a policy in force."""
    prepared = await protection.prepare(document.limits)
    protection.commit(prepared, compile_policy(document).breakers)
