"""The requests for frames carry the end-to-end headers of the client, and no others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from video.inference.caller_headers import call_metadata, forwarded_headers

SPAN = "00f067aa0ba902b7"


def forwarded(**headers: str) -> dict[str, str]:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return dict(forwarded_headers(named, SPAN))


def test_credentials_and_headers_that_routes_match_are_forwarded() -> None:
    headers = {
        "authorization": "Bearer abc",
        "x-api-key": "k",
        "x-model-version": "v2",
        "x-canary": "true",
        "x-user-id": "7",
        "cookie": "a=b",
    }
    assert dict(forwarded_headers(headers.items(), SPAN)) == headers


@pytest.mark.parametrize(
    "name",
    [
        ":path", "host", "content-type", "content-length", "transfer-encoding", "te", "connection",
        "upgrade", "accept", "accept-encoding", "user-agent", "range", "expect", "if-none-match",
        "x-sluice-subject", "x-envoy-external-address", "x-forwarded-for", "x-request-id", "via",
        "forwarded", "grpc-timeout", "x-model-name",
    ],
)  # fmt: skip
def test_headers_of_the_connection_the_upload_and_the_gateway_are_not(name: str) -> None:
    assert forwarded_headers([(name, "1"), ("x-canary", "true")], SPAN) == (("x-canary", "true"),)


def test_headers_that_connection_names_are_not_forwarded() -> None:
    assert forwarded(connection="close, X-Secret", x_secret="1", x_canary="1") == {"x-canary": "1"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("trace-bin", "AAE="), ("x-n\xe4me", "1"), ("x-name", "\xe4"), ("x", "a\nb")],
)
def test_headers_that_metadata_cannot_represent_are_not_forwarded(name: str, value: str) -> None:
    assert forwarded_headers([(name, value)], SPAN) == ()


def test_the_calls_are_children_of_the_span_of_the_upload() -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    assert forwarded(traceparent=f"00-{trace}-b7ad6b7169203331-01", tracestate="a=1") == {
        "traceparent": f"00-{trace}-{SPAN}-01",
        "tracestate": "a=1",
    }


def test_an_invalid_traceparent_is_left_out() -> None:
    assert forwarded(traceparent="00-zz", x_canary="1") == {"x-canary": "1"}


def test_a_repeated_header_stays_repeated() -> None:
    headers = (("x-group", "a"), ("x-group", "b"))
    assert forwarded_headers(headers, SPAN) == headers


@given(st.lists(st.tuples(st.text(max_size=20).map(str.lower), st.text(max_size=20)), max_size=8))
def test_all_that_is_forwarded_is_valid_metadata(headers: list[tuple[str, str]]) -> None:
    for name, value in forwarded_headers(headers, SPAN):
        assert name.isascii()
        assert name == name.lower()
        assert value.isascii()
        assert value.isprintable()
        assert (name, value) in [(each, text.strip(" \t")) for each, text in headers]


def test_the_model_is_named_once() -> None:
    caller = (("x-model-version", "v1"), ("authorization", "Bearer abc"))
    assert call_metadata(caller, "digits", None) == (*caller, ("x-model-name", "digits"))
    assert call_metadata(caller, "digits", "v2") == (
        ("authorization", "Bearer abc"),
        ("x-model-name", "digits"),
        ("x-model-version", "v2"),
    )
