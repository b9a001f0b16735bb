"""Measures the CPU time of a decision and of its parts, without sockets.

Each figure is the best of several rounds on one core, in microseconds per request.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle

from bench.tokens import AUDIENCE, ISSUER, token_and_jwks
from extproc.decision import Request, decide
from extproc.policy.compiled import compile_policy
from extproc.policy.current import CurrentPolicy
from extproc.rpc import StatusCode
from extproc.segments import Content
from extproc.services.decider import Decider
from extproc.services.ext_authz import Authorization
from extproc.services.ext_proc.admission_cache import MAX_SEEN
from extproc.services.ext_proc.service import ExternalProcessor
from extproc.services.ext_proc.stream import header_dict
from protos.ext_authz_pb2 import CheckRequest
from protos.ext_proc_pb2 import ProcessingRequest
from sluice.config import PolicyDocument


def document(jwks: str, *, token_cache: bool = True) -> PolicyDocument:
    """A policy of 100 models, with a rule of every kind."""
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
    auth: dict[str, object] = {"issuers": [issuer]}
    if not token_cache:
        auth["token_cache_entries"] = 0
    return PolicyDocument.model_validate(
        {"version": "bench", "requests": {}, "auth": auth, "models": {"bench": bench, **others}}
    )


def headers(token: str) -> dict[str, bytes]:
    """The headers of a typical request from Envoy: about a kilobyte."""
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


class _DiscardingCall:
    """A call that drops its responses."""

    metadata: Sequence[tuple[str, str | bytes]] = ()
    deadline: float | None = None

    def send(self, message: Content) -> None:
        """Drop the message."""

    async def writable(self) -> None:
        """Return at once."""

    def finish(self, code: StatusCode = StatusCode.OK, details: str = "") -> None:
        """Nothing to end."""


def microseconds(step: Callable[[], object], rounds: int, calls: int) -> float:
    """CPU time of one call: the mean of the fastest round, which other load affects least."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time_ns()
        for _ in range(calls):
            step()
        best = min(best, (time.process_time_ns() - began) / calls / 1000)
    return best


def processing_request(headers: dict[str, bytes]) -> ProcessingRequest:
    """The ext_proc message of a request."""
    message = ProcessingRequest()
    for name, value in headers.items():
        message.request_headers.headers.headers.add(key=name, raw_value=value)
    return message


def check_request(headers: dict[str, bytes]) -> CheckRequest:
    """The ext_authz message of a request."""
    check = CheckRequest()
    http = check.attributes.request.http
    http.method, http.path = headers[":method"].decode(), headers[":path"].decode()
    for name, value in headers.items():
        if not name.startswith(":"):
            http.headers[name] = value.decode()
    return check


def distinct_messages(headers: dict[str, bytes]) -> Iterator[bytes]:
    """Serialized ext_proc messages. A message is repeated after the admission cache evicted it."""
    notes = (b"%08d" % number for number in range(2 * MAX_SEEN))
    return cycle(
        [processing_request({**headers, "x-note": note}).SerializeToString() for note in notes]
    )


def steps(jwks: str, token: str) -> dict[str, Callable[[], object]]:
    """The functions to measure, by name."""
    policy = compile_policy(document(jwks))
    uncached_policy = compile_policy(document(jwks, token_cache=False))
    current_policy = CurrentPolicy()
    current_policy.current = policy
    request_headers = headers(token)
    message = processing_request(request_headers)
    wire = message.SerializeToString()
    check_wire = check_request(request_headers).SerializeToString()
    request = Request(request_headers, True, time.time())
    processor, call = ExternalProcessor(Decider(current_policy)), _DiscardingCall()
    authorization = Authorization(Decider(current_policy))
    messages = distinct_messages(request_headers)

    def process_distinct() -> None:
        processor.open(call).on_message(next(messages))

    def process_repeated() -> None:
        processor.open(call).on_message(wire)

    return {
        "parse the message": partial(ProcessingRequest.FromString, wire),
        "convert the headers to a dict": partial(header_dict, message.request_headers),
        "decide, cached token": partial(decide, policy, request),
        "decide, token verified (RS256)": partial(decide, uncached_policy, request),
        f"ext_proc, distinct ({len(wire)} bytes)": process_distinct,
        "ext_proc, cached admission": process_repeated,
        f"ext_authz ({len(check_wire)} bytes)": partial(authorization.check, check_wire),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=5_000, help="in one round")
    options = parser.parse_args()
    token, jwks = token_and_jwks()
    for name, step in steps(jwks, token).items():
        print(f"{name:<36}{microseconds(step, options.rounds, options.calls):>8.2f} us")


if __name__ == "__main__":
    main()
