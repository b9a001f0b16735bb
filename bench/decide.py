"""CPU of a decision, part by part, without a socket: what Python spends besides transport.

Figures are the best of several rounds on one core, in microseconds a request.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

from bench.tokens import AUDIENCE, ISSUER, token_and_jwks
from extproc.decision import Request, decide
from extproc.policy.compiled import Policy, compile_policy
from extproc.policy.current import CurrentPolicy
from extproc.services.decider import Decider
from extproc.services.ext_authz import Authorization
from extproc.services.ext_proc.service import ExternalProcessor
from extproc.services.ext_proc.stream import header_dict
from protos.ext_authz_pb2 import CheckRequest
from protos.ext_proc_pb2 import ProcessingRequest
from sluice.config import PolicyDocument


def document(jwks: str) -> PolicyDocument:
    """A policy with a rule of every kind."""
    versions = {v: {"endpoints": [{"address": "127.0.0.1:9000"}]} for v in ("v1", "v2")}
    issuer = {"issuer": ISSUER, "audiences": [AUDIENCE], "algorithms": ["RS256"], "jwks": jwks}
    bench = {
        "stable": "v1",
        "versions": versions,
        "access": {"allow": [{"groups": ["staff", "vip"]}]},
        "claim_rules": [{"claim": "group", "value": "beta", "version": "v2"}],
        "canaries": [{"version": "v2", "percent": 10, "model_types": ["next"]}],
    }
    others = {f"model-{n}": {"versions": {"v1": versions["v1"]}} for n in range(99)}
    return PolicyDocument.model_validate(
        {
            "version": "bench",
            "requests": {},
            "auth": {"issuers": [issuer]},
            "models": {"bench": bench, **others},
        }
    )


def headers(token: str) -> dict[str, bytes]:
    """What Envoy tells of a usual request: about a kilobyte."""
    return {
        ":method": b"POST",
        ":path": b"/v2/models/bench/infer",
        ":authority": b"gateway.example.com",
        ":scheme": b"http",
        "user-agent": b"python-httpx/0.28.1",
        "accept": b"*/*",
        "accept-encoding": b"gzip, deflate",
        "authorization": f"Bearer {token}".encode(),
        "content-type": b"application/json",
        "content-length": b"512",
        "x-forwarded-for": b"10.1.2.3",
        "x-forwarded-proto": b"http",
        "x-request-id": b"5d3a2f4e-9a0c-4a64-9df4-5a7a4f0f7b11",
    }


class _Sink:
    """A call whose answers go nowhere."""

    metadata = ()
    deadline = None

    def send(self, message: bytes) -> None:
        """Drop it."""

    async def writable(self) -> None:
        """There is always room."""

    def finish(self, code: int = 0, details: str = "") -> None:
        """Nothing is open."""


def microseconds(step: Callable[[], object], rounds: int, calls: int) -> float:
    """Of one call: the best round's mean, which noise from the machine spoils least."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time_ns()
        for _ in range(calls):
            step()
        best = min(best, (time.process_time_ns() - began) / calls / 1000)
    return best


def steps(
    policy: Policy, current_policy: CurrentPolicy, token: str
) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    given = headers(token)
    message = ProcessingRequest()
    check = CheckRequest()
    for name, value in given.items():
        message.request_headers.headers.headers.add(key=name, raw_value=value)
        if not name.startswith(":"):
            check.attributes.request.http.headers[name] = value.decode()
    check.attributes.request.http.method, check.attributes.request.http.path = (
        "POST",
        given[":path"].decode(),
    )
    wire, check_wire = message.SerializeToString(), check.SerializeToString()
    request = Request(given, True, time.time())
    processor, sink = ExternalProcessor(Decider(current_policy)), _Sink()
    authorization = Authorization(Decider(current_policy))
    verified, admissions = policy.authenticator._verified, processor.admissions

    def process() -> None:
        processor.open(sink).on_message(wire)

    def process_unknown() -> None:
        admissions._cached.clear()
        admissions._seen.clear()
        process()

    def verify() -> None:
        verified.clear()
        decide(policy, request)

    return {
        "parse the message": partial(ProcessingRequest.FromString, wire),
        "headers to a dict": partial(header_dict, message.request_headers),
        "decide, token remembered": partial(decide, policy, request),
        "decide, token verified (RS256)": verify,
        f"ext_proc, whole ({len(wire)} bytes)": process_unknown,
        "ext_proc, like one before": process,
        f"ext_authz, whole ({len(check_wire)} bytes)": partial(authorization.check, check_wire),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=5_000)
    options = parser.parse_args()
    token, jwks = token_and_jwks()
    current_policy = CurrentPolicy()
    current_policy.current = compile_policy(document(jwks))
    for name, step in steps(current_policy.current, current_policy, token).items():
        print(f"{name:<36}{microseconds(step, options.rounds, options.calls):>8.2f} us")


if __name__ == "__main__":
    main()
