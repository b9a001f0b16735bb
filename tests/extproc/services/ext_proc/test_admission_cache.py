"""Tests of the admission cache: a hit gives the same response as a decision."""

import asyncio
import gc
import time
import tracemalloc
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from extproc.breaker.breaker import MICROS_PER_SECOND, UPDATE_INTERVAL
from extproc.counter_table import CounterTable, create
from extproc.decision import Reads
from extproc.policy.current import CurrentPolicy
from extproc.protection import Protection, ProtectionSettings
from extproc.services.decider import Decider
from extproc.services.ext_proc import admission_cache
from extproc.services.ext_proc.service import ExternalProcessor
from protos.ext_proc_pb2 import ProcessingMode, ProcessingRequest, ProcessingResponse
from sluice.config import Auth, PolicyDocument
from sluice.keys.key_set import KeySet
from tests.extproc.auth.tokens import LEEWAY, NOW, OTHER_RSA, issuer, key_set, rsa_jwk
from tests.extproc.decision.requests import bearer, document
from tests.extproc.policy.received import protect
from tests.extproc.services.callout import body
from tests.extproc.services.ext_proc.recorded_call import RecordedCall

TRACE = f"00-{uuid.UUID(int=1).hex}-00f067aa0ba902b7-01"


class Service:
    """ext_proc with one policy, and with a clock that tests set."""

    def __init__(self, policy: PolicyDocument, protection: Protection | None = None) -> None:
        self.current_policy = CurrentPolicy()
        self.current_policy.apply(policy)
        self.now = NOW
        self.ext_proc = ExternalProcessor(
            Decider(self.current_policy, lambda: self.now, protection=protection)
        )

    @property
    def hits(self) -> int:
        return self.ext_proc.admissions.hits

    def send_twice(
        self, headers: Mapping[str, str], *, has_body: bool = False
    ) -> ProcessingResponse:
        """Send a request twice: its admission is cached on second sight."""
        self.send(headers, has_body=has_body)
        return self.send(headers, has_body=has_body)

    def send(self, headers: Mapping[str, str], *, has_body: bool = False) -> ProcessingResponse:
        (response,) = self.process(headers_message(headers, has_body=has_body))
        return response

    def process(self, *messages: ProcessingRequest) -> list[ProcessingResponse]:
        call = RecordedCall()
        stream = self.ext_proc.open(call)
        for message in messages:
            stream.on_message(message.SerializeToString())
        return call.responses


def headers_message(headers: Mapping[str, str], *, has_body: bool) -> ProcessingRequest:
    message = ProcessingRequest()
    message.request_headers.end_of_stream = not has_body
    for name, value in headers.items():
        message.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    return message


def headers(**changes: str | None) -> dict[str, str]:
    """Headers of a request. Underscores stand for hyphens; None leaves a header out."""
    usual: dict[str, str | None] = {
        ":method": "GET",
        ":path": "/v2/models/m",
        "authorization": bearer(),
        "x-forwarded-for": "10.0.0.1",
        "x-request-id": str(uuid.uuid4()),
    }
    named = {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in {**usual, **named}.items() if value is not None}


def upload(**changes: str | None) -> dict[str, str]:
    """The headers of a request with a body of declared length."""
    named = {"content_type": "application/json", "content_length": "2", **changes}
    return {**headers(**named), ":method": "POST", ":path": "/v2/models/m/infer"}


def version(response: ProcessingResponse) -> str:
    added = response.request_headers.response.header_mutation.set_headers
    return {option.header.key: option.header.raw_value.decode() for option in added}[
        "x-model-version"
    ]


def status(response: ProcessingResponse) -> int:
    code: int = response.immediate_response.status.code
    return code


def test_a_hit_ignores_the_request_id_and_the_trace() -> None:
    service = Service(document({"m": {"access": {}}}))
    first = service.send_twice(headers(traceparent=TRACE))
    other = headers(traceparent=TRACE.replace("00f067aa", "11f067aa"))
    assert service.send(other) == first
    assert version(first) == "v1"
    assert service.hits == 1


def test_a_trace_with_other_characters_than_printable_ascii_needs_its_own_decision() -> None:
    versions = {"v1": {"endpoints": [{"address": "127.0.0.1:9001"}], "protocol": "grpc"}}
    service = Service(document({"m": {"versions": versions, "paths": ["/own.Service"]}}))
    call = {**headers(content_type="application/grpc", traceparent=TRACE), ":method": "POST"}
    call[":path"] = "/own.Service/Method"
    assert version(service.send_twice(call, has_body=True)) == "v1"
    service.send(call, has_body=True)
    assert service.hits == 1
    # Two bytes in UTF-8, so the value is as long as the other.
    assert status(service.send({**call, "traceparent": "\u00e9" + TRACE[2:]}, has_body=True)) == 400


def test_each_hit_compares_the_content_length_with_max_body() -> None:
    service = Service(document({"m": {"max_body": 50}}))
    assert version(service.send_twice(upload(content_length="10"), has_body=True)) == "v1"
    assert version(service.send(upload(content_length="50"), has_body=True)) == "v1"
    assert service.hits == 1
    assert status(service.send(upload(content_length="51"), has_body=True)) == 413
    assert status(service.send(upload(content_length="5x"), has_body=True)) == 400
    assert service.hits == 1


def test_each_hit_checks_the_expiry_of_the_token() -> None:
    service = Service(document({"m": {"access": {}}}))
    caller = bearer(exp=NOW + 10)
    service.send_twice(headers(authorization=caller))
    service.now = NOW + 10 + LEEWAY - 1
    assert version(service.send(headers(authorization=caller))) == "v1"
    assert service.hits == 1
    service.now = NOW + 10 + LEEWAY
    assert status(service.send(headers(authorization=caller))) == 401


def test_new_keys_empty_the_cache() -> None:
    service = Service(document({"m": {"access": {}}}))
    service.send_twice(headers())
    assert service.current_policy.current is not None
    keys = KeySet.parse(key_set(rsa_jwk(OTHER_RSA, kid="two")))
    service.current_policy.current.authenticator.replace_keys(issuer().issuer, keys, 0.0)
    assert status(service.send(headers())) == 401


def test_a_new_policy_empties_the_cache() -> None:
    service = Service(document({"m": {}}))
    assert version(service.send_twice(headers())) == "v1"
    service.current_policy.apply(document({"m": {"stable": "v2"}}))
    assert version(service.send(headers())) == "v2"


@pytest.mark.parametrize(
    "policy",
    [
        document({"m": {"bucket": {"header": "x-request-id"}, "canaries": [{"version": "v2"}]}}),
        document(
            {
                "m": {
                    "canaries": [
                        {"version": "v2", "headers": [{"name": "traceparent", "value": TRACE}]}
                    ]
                }
            }
        ),
        document(auth={"issuers": [issuer()], "token_cache_entries": 0}),
    ],
    ids=["bucket", "canary", "no token cache"],
)
def test_the_cache_is_disabled_if_the_policy_reads_an_omitted_header_or_caches_no_tokens(
    policy: PolicyDocument,
) -> None:
    service = Service(policy)
    service.send_twice(headers())
    service.send(headers())
    assert service.hits == 0


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        (Reads(), True),
        (Reads(headers=frozenset({"authorization"}), header_names=True, has_body=True), True),
        (Reads(header_patterns=frozenset({"grpc-*", "*-bin"})), True),
        (Reads(bounded_by_max_body=frozenset({"content-length", "x-length"})), True),
        (Reads(time_until_expiry=True), True),
        (Reads(headers=frozenset({"x-request-id"})), False),
        (Reads(headers=frozenset({"traceparent"})), False),
        (Reads(headers=frozenset({"content-length"})), False),
        (Reads(header_patterns=frozenset({"trace*"})), False),
        (Reads(bounded_by_max_body=frozenset({"x-request-id"})), False),
        (Reads(time=True), False),
    ],
    ids=str,
)
def test_the_cache_is_disabled_if_a_stage_reads_a_part_that_the_cache_ignores(
    reads: Reads, expected: bool
) -> None:
    assert admission_cache.cacheable(reads) == expected


@pytest.mark.parametrize(
    "sent",
    [
        headers(x_note="x-request-id"),
        headers(x_note="a" * admission_cache.MAX_MESSAGE),
        headers(x_model_version="v9"),
    ],
    ids=["a value that contains an omitted name", "long", "refused"],
)
def test_ambiguous_long_and_refused_requests_are_not_cached(sent: dict[str, str]) -> None:
    service = Service(document({"m": {}}))
    assert service.send_twice(sent) == service.send(sent)
    assert service.hits == 0


def test_a_request_without_omitted_headers_is_cached() -> None:
    service = Service(document({"m": {}}))
    sent = headers(x_request_id=None)
    assert service.send_twice(sent) == service.send(sent)
    assert service.hits == 1


@pytest.fixture
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_cache, "MAX_ENTRIES", 8)
    monkeypatch.setattr(admission_cache, "MAX_SEEN", 16)


@pytest.mark.usefixtures("small_cache")
def test_one_off_requests_do_not_evict_others() -> None:
    service = Service(document({"m": {}}))
    service.send_twice(headers(x_number="again"))
    for number in range(admission_cache.MAX_ENTRIES + 1):
        service.send(headers(x_number=str(number)))
    service.send(headers(x_number="again"))
    assert service.hits == 1


@pytest.mark.usefixtures("small_cache")
def test_the_number_of_hashes_of_one_off_requests_is_bounded() -> None:
    service = Service(document({"m": {}}))
    for number in range(admission_cache.MAX_SEEN + 1):
        service.send(headers(x_number=str(number)))
    service.send_twice(headers(x_number="0"))
    assert service.hits == 0
    service.send(headers(x_number="0"))
    assert service.hits == 1


def test_callers_that_take_turns_are_cached_as_long_as_there_is_room() -> None:
    """Each caller has another token, and the token cache has room for 10,000 by default."""
    assert Auth().token_cache_entries < admission_cache.MAX_ENTRIES < admission_cache.MAX_SEEN
    callers, service = 40, Service(document({"m": {}}))
    for _ in range(3):
        for caller in range(callers):
            service.send(headers(x_number=str(caller)))
    assert service.hits == callers


@pytest.mark.parametrize(
    ("name", "value"), [("x-request-id", str(uuid.UUID(int=7))), ("traceparent", TRACE)]
)
def test_a_content_length_cannot_take_the_place_of_another_omitted_header(
    name: str, value: str
) -> None:
    """Envoy passes lengths with leading zeros over HTTP/2."""
    service = Service(document({"m": {}}))
    pad = len(f"{name}{value}") - len("content-length")
    sent = headers(x_request_id=None)
    assert version(service.send_twice({**sent, name: value})) == "v1"
    length = f"{'0' * (pad - 20)}{'9' * 20}"
    assert status(service.send({**sent, "content-length": length})) == 400
    assert service.hits == 0


def test_only_the_first_message_of_a_stream_is_cached() -> None:
    service = Service(document({"m": {"access": {}}}))
    refused = headers(authorization=None)
    for _ in range(2):
        service.process(
            headers_message(refused, has_body=False), headers_message(headers(), has_body=False)
        )
    assert status(service.send(refused)) == 401


def test_a_body_after_a_hit_is_counted() -> None:
    service = Service(document({"m": {"max_body": 10}}))
    for _ in range(3):
        message = headers_message(upload(content_length=None), has_body=True)
        admitted, passed, refused = service.process(message, body(b"0123456789"), body(b"0"))
        assert admitted.mode_override.request_body_mode == ProcessingMode.STREAMED
        assert passed.WhichOneof("response") == "request_body"
        assert status(refused) == 413
    assert service.hits == 1


GRPC_MODEL = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "versions": {"v1": {"endpoints": [{"address": "127.0.0.1:9001"}], "protocol": "grpc"}},
}
"""A model whose requests are converted."""


def test_a_body_after_a_hit_is_converted() -> None:
    service = Service(document({"m": GRPC_MODEL}))
    converted = []
    tensor = b'{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [%d, 2]}'
    for content in (b'{"inputs": [%b]}' % (tensor % n) for n in (1, 2, 3)):
        message = headers_message(upload(content_length=str(len(content))), has_body=True)
        admitted, replaced = service.process(message, body(content, end_of_stream=True))
        assert admitted.mode_override.request_body_mode == ProcessingMode.BUFFERED_PARTIAL
        converted.append(replaced.request_body.response.body_mutation.body)
    assert service.hits == 1
    assert [np.frombuffer(each[-8:], "<f4")[0] for each in converted] == [1, 2, 3]


def test_a_problem_after_a_hit_has_the_id_of_its_request() -> None:
    service = Service(document({"m": GRPC_MODEL}))
    for _ in range(3):
        sent = upload()
        message = headers_message(sent, has_body=True)
        _, refused = service.process(message, body(b"{}", end_of_stream=True))
        assert sent["x-request-id"] in refused.immediate_response.body.decode()
    assert service.hits == 1


def test_a_request_that_becomes_a_call_is_not_cached() -> None:
    """The response to its headers has a body that is written for it."""
    service = Service(document({"m": GRPC_MODEL}))
    for _ in range(3):
        response = service.send(headers())
        assert response.request_headers.response.body_mutation.body
    assert service.hits == 0


def test_a_body_after_a_hit_passes() -> None:
    """An Envoy with another configuration may send every body."""
    service = Service(document({"m": {"max_body": 10}}))
    for _ in range(3):
        message = headers_message(upload(content_length="10"), has_body=True)
        _, passed = service.process(message, body(b"0123456789", end_of_stream=True))
        assert passed.WhichOneof("response") == "request_body"
    assert service.hits == 1


def test_a_cached_admission_keeps_no_claims() -> None:
    """An issuer chooses how many claims a token has."""
    auth = {"issuers": [issuer()], "token_cache_entries": 1}
    service = Service(document({"m": {"access": {}}}, auth=auth))
    claims = {f"c{number}": number for number in range(100)}
    requests = [headers(authorization=bearer(sub=f"s{n}", **claims)) for n in range(50)]
    tracemalloc.start()
    for request in requests:
        service.send_twice(request)
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert service.hits == 0
    for request in requests:
        service.send(request)
    assert service.hits == len(requests)
    assert used < 5000 * len(requests)


@pytest.mark.usefixtures("small_cache")
def test_the_number_of_cached_admissions_is_bounded() -> None:
    service = Service(document({"m": {}}))
    for number in range(admission_cache.MAX_ENTRIES + 3):
        service.send_twice(headers(x_number=str(number)))
    service.send(headers(x_number="0"))
    assert service.hits == 0
    service.send(headers(x_number=str(admission_cache.MAX_ENTRIES + 2)))
    assert service.hits == 1


def protected(
    directory: Path, policy: PolicyDocument, monotonic: Callable[[], float] = time.monotonic
) -> Protection:
    create(directory / "counters", 1, 10_000)
    table = CounterTable(directory / "counters", 0)
    protection = Protection(table, ProtectionSettings(), monotonic)
    asyncio.run(protect(protection, policy))
    return protection


def test_each_hit_checks_the_breaker(tmp_path: Path) -> None:
    now = 1000.0
    policy = document({"m": {}})
    protection = protected(tmp_path, policy, lambda: now)
    service = Service(policy, protection)
    assert version(service.send_twice(headers())) == "v1"
    protection.breaker.record(now, "m/v1", ok=False, count=1_000)
    now += UPDATE_INTERVAL / MICROS_PER_SECOND
    sent = headers()
    refusals = [response for _ in range(5) if status(response := service.send(sent))]
    assert service.hits == 5
    assert {status(response) for response in refusals} == {503}
    assert sent["x-request-id"].encode() in refusals[0].immediate_response.body


def test_limits_count_every_request(tmp_path: Path) -> None:
    rule = {"name": "few", "algorithm": "fixed_window", "rate": 2, "per": "hour"}
    policy = document({"m": {}}, limits={"rules": [rule]})
    service = Service(policy, protected(tmp_path, policy))
    assert [status(service.send(headers())) for _ in range(4)] == [0, 0, 429, 429]


_NAMES = st.sampled_from(
    ["x-model-version", "x-canary", "x-model-type", "x-sluice-a", "x-note", "content-length",
     "traceparent", "x-api-key", "authorization", "content-type"]
)  # fmt: skip
_MARKERS = (
    "\n\x0cx-request-id\x1a$",
    "\n\x0econtent-length\x1a\x02",
    "\n\x0btraceparent\x1a7",
)
_VALUES = st.one_of(
    st.sampled_from(["v1", "v2", "true", "12", "999", "image", TRACE, "application/json"]),
    st.sampled_from([bearer(sub="alice"), bearer(sub="bob", group="vip"), bearer(exp=NOW - 900)]),
    st.builds(
        lambda marker, rest: marker + rest,
        st.sampled_from(_MARKERS),
        st.text(alphabet="v12-0\n$", min_size=30, max_size=60),
    ),
)
_REQUESTS = st.tuples(
    st.dictionaries(_NAMES, _VALUES, max_size=4),
    st.uuids(version=4).map(str) | st.sampled_from([str(uuid.UUID(int=7)), "short", None]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 0, 0, 100]),
)


def _request(added: dict[str, str], identifier: str | None, first: bool) -> dict[str, str]:
    own = {} if identifier is None else {"x-request-id": identifier}
    usual = {":method": "POST", ":path": "/v2/models/m/infer"}
    return {**usual, **own, **added} if first else {**usual, **added, **own}


CANARY: dict[str, Any] = {
    "max_body": 500,
    "canaries": [
        {"version": "v2", "percent": 40, "headers": [{"name": "x-canary", "value": "true"}]},
        {"version": "v3", "model_types": ["image"]},
    ],
    "claim_rules": [{"claim": "group", "value": "vip", "version": "v2"}],
}


@settings(deadline=None, max_examples=300)
@given(st.lists(_REQUESTS, min_size=2, max_size=12))
@example([({}, str(uuid.UUID(int=7)), True, False, 0), ({}, str(uuid.UUID(int=8)), True, False, 0)])
@example([({"authorization": bearer(sub="alice")}, None, True, False, s) for s in (0, 0, 100)])
def test_a_service_with_a_filled_cache_responds_like_a_service_with_an_empty_cache(
    requests: list[tuple[dict[str, str], str | None, bool, bool, int]],
) -> None:
    """Some requests come after a pause, so that tokens expire."""
    policy = document({"m": CANARY})
    caching = Service(policy)
    for added, identifier, first, has_body, seconds in requests * 3:
        sent = _request(added, identifier, first)
        caching.now += seconds
        alone = Service(policy)
        alone.now = caching.now
        assert caching.send(sent, has_body=has_body) == alone.send(sent, has_body=has_body)
