"""Request headers that carry an admission to the model server, and details of refusals."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extproc.decision import Admission, Reason, Refusal
from extproc.decision.convert import ADDED_HEADERS, SUBJECT_GROWTH
from extproc.decision.request import HEADER_OVERHEAD
from extproc.limits import limit_headers
from extproc.limits.limiter import LimitVerdict
from extproc.services.responses import (
    header_safe,
    refusal_details,
    removed_headers,
    upstream_headers,
    video_credentials,
)
from sluice.contract.names import VIDEO_CLUSTER, VIDEO_GRPC_CLUSTER
from sluice.contract.request_end import MAX_DETAILS, RequestEnd
from tests.extproc.decision.requests import VERSIONS, make_policy

POLICY = make_policy({"m": {}, "n": {}})
LONG_NAMES = make_policy(
    {"x" * 63: {"versions": {"x" * 63: {**VERSIONS["v1"], "protocol": "grpc"}}, "stable": "x" * 63}}
)

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("subject", "value"),
    [
        ("alice@example.com", "alice@example.com"),
        ("a\r\nx-admin: 1", "a%0D%0Ax-admin:%201"),
        ("jürgen", "j%C3%BCrgen"),
        ("a%0Ab", "a%250Ab"),
        (" a", "%20a"),
        ("\x00\x7f", "%00%7F"),
    ],
)
def test_a_subject_cannot_start_another_header(subject: str, value: str) -> None:
    assert header_safe(subject) == value


@given(_TEXT)
def test_every_subject_has_a_valid_header_value(text: str) -> None:
    value = header_safe(text)
    assert all(0x20 <= ord(character) <= 0x7E for character in value)
    assert value == value.strip()


@given(_TEXT, _TEXT)
@example("%20", " ")
@example(" a", "%20a")
@example("ä", "%C3%A4")
def test_different_subjects_have_different_header_values(one_: str, other: str) -> None:
    assert (header_safe(one_) == header_safe(other)) == (one_ == other)


@given(_TEXT.filter(bool), st.sampled_from([b"m", b"n"]))
def test_each_upstream_header_is_set_once(subject: str, model: bytes) -> None:
    target = POLICY.models[model].stable
    sent = upstream_headers(Admission(target, Reason.CANARY_HEADER, True, subject, 1))
    names = [name for name, _ in sent]
    assert len(set(names)) == len(names)
    assert dict(sent)["x-model-service"] == target.cluster


@given(_TEXT)
def test_the_headers_of_an_admission_fit_into_the_bytes_that_are_reserved(subject: str) -> None:
    longest = "x" * 63
    target = LONG_NAMES.models[longest.encode()].stable
    most = 2**40
    limited = LimitVerdict(True, longest, most, most, most, window=most)
    headers = tuple(limit_headers(limited))
    sent = upstream_headers(
        Admission(target, max(Reason, key=len), True, subject, 1, limit_headers=headers)
    )
    size = sum(len(name) + len(value) + HEADER_OVERHEAD for name, value in sent)
    assert size <= ADDED_HEADERS + SUBJECT_GROWTH * len(subject.encode())


def test_the_details_of_a_refusal_name_the_place_in_the_body_or_what_is_wrong() -> None:
    """One reason, such as `malformed_request`, stands for many causes."""
    shown = RequestEnd.parse(refusal_details(Refusal(Reason.MALFORMED_REQUEST, "a; b" * 100)))
    assert shown == RequestEnd("malformed_request", details=("a; b" * 100)[:MAX_DETAILS])
    placed = Refusal(Reason.WRONG_TYPE, "inputs[0]: 'secret'", field="inputs[0]", version="v1")
    assert refusal_details(placed) == "sluice:wrong_type;version=v1;details=inputs[0]"


VIDEO = make_policy(
    {
        "m": {
            "versions": {"v1": {**VERSIONS["v1"], "protocol": "grpc"}},
            "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}],
            "video": {},
        }
    },
    auth={"api_key_header": "x-key"},
)
CREDENTIALS = {"authorization": b"Bearer a", "x-key": b"k", "proxy-authorization": b"Basic b"}


def video_admission(cluster: str | None) -> Admission:
    target = VIDEO.models[b"m"].stable
    return Admission(target, Reason.STABLE, True, "alice", 1, video_cluster=cluster)


@pytest.mark.parametrize("cluster", [VIDEO_CLUSTER, VIDEO_GRPC_CLUSTER])
def test_the_video_service_gets_the_model_and_the_subject_but_no_version(cluster: str) -> None:
    sent = dict(upstream_headers(video_admission(cluster)))
    assert sent["x-model-service"] == cluster
    assert sent["x-sluice-model"] == "m"
    assert sent["x-sluice-subject"] == "alice"
    assert sent.keys().isdisjoint({"x-model-version", "x-sluice-canary"})


def test_only_the_video_service_gets_the_credentials_of_the_client() -> None:
    sent = video_credentials(VIDEO, video_admission(VIDEO_CLUSTER), CREDENTIALS)
    assert sent == [("x-sluice-authorization", "Bearer a"), ("x-sluice-api-key", "k")]
    assert video_credentials(VIDEO, video_admission(None), CREDENTIALS) == []
    assert CREDENTIALS.keys() <= set(removed_headers(VIDEO, CREDENTIALS))


def test_credentials_that_are_forwarded_keep_their_names() -> None:
    policy = make_policy({"m": {}}, auth={"forward_credentials": True})
    assert video_credentials(policy, video_admission(VIDEO_CLUSTER), CREDENTIALS) == []
    assert removed_headers(policy, CREDENTIALS) == []
