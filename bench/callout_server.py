"""`python -m bench.callout_server TRANSPORT ADDRESS POLICY JWKS`: one callout worker without xDS.

POLICY is `trivial` (everyone is admitted to the only version) or `full` (every stage is used: an
RS256 token, access rules, claim rules and canaries). The worker prints the number of open streams
when it ends.
"""

import asyncio
import gc
import json
import signal
import sys
from pathlib import Path

import uvloop

from bench.tokens import AUDIENCE, ISSUER
from extproc.policy.policies import Policies
from extproc.rpc import unary
from extproc.services.decider import Decider
from extproc.services.ext_authz import Authorization
from extproc.services.ext_proc.service import ExternalProcessor, MarkedProcessor
from extproc.services.health import HealthService
from extproc.transport import TRANSPORTS, serve
from sluice.config import GatewayConfig, PolicyDocument, policy_document
from sluice.contract.paths import EXT_AUTHZ, EXT_PROC

UNUSED_ADDRESS = "127.0.0.1:1"

TRIVIAL_POLICY = {
    "models": {
        "bench": {
            "access": {"public": True},
            "methods": ["GET", "POST"],
            "versions": {"v1": {"endpoints": [{"address": UNUSED_ADDRESS}]}},
        }
    }
}


def full_policy(jwks: str, upstream: str = UNUSED_ADDRESS) -> dict[str, object]:
    """A config that uses every stage of a decision. The breaker is off."""
    issuer = {"issuer": ISSUER, "audiences": [AUDIENCE], "algorithms": ["RS256"], "jwks": jwks}
    version = {"endpoints": [{"address": upstream}]}
    model = {
        "stable": "v1",
        "methods": ["GET", "POST"],
        "versions": {"v1": version, "v2": version, "v3": version},
        "access": {"allow": [{"groups": ["staff"]}, {"groups": ["vip"]}]},
        "claim_rules": [{"claim": "tier", "value": "gold", "version": "v3"}],
        "canaries": [{"version": "v2", "percent": 0, "model_types": ["image-classification"]}],
        "breaker": {"enabled": False},
    }
    return {"auth": {"issuers": [issuer]}, "models": {"bench": model, "sentiment": model}}


def document(policy: str, jwks: str) -> PolicyDocument:
    """The policy document of `trivial` or `full`."""
    config = TRIVIAL_POLICY if policy == "trivial" else full_policy(jwks)
    return policy_document(GatewayConfig.model_validate(config), Path())


async def run(transport: str, address: str, policy: PolicyDocument) -> None:
    """Serve until SIGTERM."""
    policies = Policies()
    current_policy = policies.in_force
    current_policy.apply(policy)
    processor, staged = (
        ExternalProcessor(Decider(each)) for each in (current_policy, policies.staged)
    )
    transport_name = next(name for name in TRANSPORTS if name == transport)
    services = {
        EXT_PROC: MarkedProcessor(policies, processor, staged).open,
        EXT_AUTHZ: unary(Authorization(Decider(current_policy)).check),
        **HealthService().services(),
    }
    server = serve(transport_name, services, address)
    await server.start()
    gc.collect()
    gc.freeze()  # as a worker does
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    counters = server.counters
    await server.close()
    print(json.dumps({"open_streams": counters.streams_opened - counters.streams_closed}))


if __name__ == "__main__":
    _, transport, address, policy, jwks = sys.argv
    uvloop.run(run(transport, address, document(policy, Path(jwks).read_text())))
