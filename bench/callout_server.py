"""`python -m bench.callout_server TRANSPORT ADDRESS POLICY JWKS`: one callout worker, no xDS.

It decides by a policy made here, and prints what it counted at the end. `trivial` admits everybody
to the one version; `full` has every stage at work: an RS256 token, access rules, claim rules and
canaries.
"""

import asyncio
import gc
import json
import signal
import sys
from pathlib import Path

import uvloop

from bench.tokens import AUDIENCE, ISSUER
from extproc.policy.current import CurrentPolicy
from extproc.rpc import unary
from extproc.services.decider import Decider
from extproc.services.ext_authz import Authorization
from extproc.services.ext_proc.service import ExternalProcessor
from extproc.services.health import HealthService
from extproc.transport import TRANSPORTS, serve
from sluice.config import GatewayConfig, PolicyDocument, policy_document
from sluice.contract.paths import EXT_AUTHZ, EXT_PROC

NOWHERE = "127.0.0.1:1"

TRIVIAL = {
    "models": {
        "bench": {
            "access": {"public": True},
            "methods": ["GET"],
            "versions": {"v1": {"endpoints": [{"address": NOWHERE}]}},
        }
    }
}


def full(jwks: str, upstream: str = NOWHERE) -> dict[str, object]:
    """A policy whose every stage has something to decide; it needs no breaker to do so."""
    issuer = {"issuer": ISSUER, "audiences": [AUDIENCE], "algorithms": ["RS256"], "jwks": jwks}
    served = {"endpoints": [{"address": upstream}]}
    model = {
        "stable": "v1",
        "methods": ["GET", "POST"],
        "versions": {"v1": served, "v2": served, "v3": served},
        "access": {"allow": [{"groups": ["staff"]}, {"groups": ["vip"]}]},
        "claim_rules": [{"claim": "tier", "value": "gold", "version": "v3"}],
        "canaries": [{"version": "v2", "percent": 0, "model_types": ["image-classification"]}],
        "breaker": {"enabled": False},
    }
    return {"auth": {"issuers": [issuer]}, "models": {"bench": model, "sentiment": model}}


def document(policy: str, jwks: str) -> PolicyDocument:
    """The policy of that name."""
    data = TRIVIAL if policy == "trivial" else full(jwks)
    return policy_document(GatewayConfig.model_validate(data), Path())


async def run(transport: str, address: str, policy: PolicyDocument) -> None:
    """Serve until SIGTERM."""
    current_policy = CurrentPolicy()
    current_policy.apply(policy)
    chosen = next(name for name in TRANSPORTS if name == transport)
    offered = {
        EXT_PROC: ExternalProcessor(Decider(current_policy)).open,
        EXT_AUTHZ: unary(Authorization(Decider(current_policy)).check),
        **HealthService().services(),
    }
    server = serve(chosen, offered, address)
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
