"""The parser turns Envoy's reports into entries, and the formats turn entries into lines."""

import json
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import UInt32Value
from hypothesis import given
from hypothesis import strategies as st

from extproc.telemetry.entry import AccessLogEntry, GrpcOutcome
from extproc.telemetry.formats import json_line, text_line
from extproc.telemetry.reports import MAX_TEXT, ReportParser
from protos.accesslog_pb2 import HTTPAccessLogEntry, LogAddress, ResponseFlags


def report(
    *,
    path: str = "/v2/models/digits/infer?token=secret",
    status: int = 200,
    details: str = "via_upstream",
    flags: ResponseFlags | None = None,
    upstream: LogAddress | None = None,
    **headers: str,
) -> HTTPAccessLogEntry:
    message = HTTPAccessLogEntry(protocol_version=HTTPAccessLogEntry.HTTP2)
    common, request, response = message.common_properties, message.request, message.response
    common.start_time.FromMilliseconds(1_700_000_000_123)
    common.duration.FromMicroseconds(1_234_567)
    common.time_to_last_upstream_tx_byte.FromMicroseconds(1_000)
    common.time_to_first_upstream_rx_byte.FromMicroseconds(3_500)
    common.route_name = "digits"
    common.response_flags = (flags or ResponseFlags()).SerializeToString()
    if upstream is None:
        upstream = LogAddress()
        upstream.socket_address.address, upstream.socket_address.port_value = "127.0.0.1", 9103
    common.upstream_remote_address = upstream.SerializeToString()
    request.request_method = 3
    request.path, request.user_agent, request.request_id = path, "agent", "id"
    request.request_body_bytes = 10
    request.request_headers.update({n.replace("_", "-"): v for n, v in headers.items()})
    response.response_code = UInt32Value(value=status).SerializeToString()
    response.response_body_bytes = 20
    response.response_code_details = details
    return message


ADMITTED = {
    "x_model_service": "digits/v2",
    "x_sluice_reason": "canary_bucket",
    "x_sluice_subject": "alice",
    "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
}


CALL = "/inference.GRPCInferenceService/ModelInfer"


def line(message: HTTPAccessLogEntry) -> dict[str, object]:
    parsed: dict[str, object] = json.loads(json_line(ReportParser().parse(message)))
    return parsed


def test_the_json_line_shows_all_fields_of_an_admitted_request() -> None:
    assert line(report(**ADMITTED)) == {
        "time": "2023-11-14T22:13:20.123000Z",
        "method": "POST",
        "path": "/v2/models/digits/infer",
        "protocol": "HTTP/2",
        "status": 200,
        "grpc_status": None,
        "flags": "",
        "reason": "canary_bucket",
        "cause": "",
        "rule": "",
        "details": "",
        "subject": "alice",
        "model": "digits",
        "version": "v2",
        "canary": True,
        "request_bytes": 10,
        "response_bytes": 20,
        "duration_ms": 1234.567,
        "upstream_ms": 2.5,
        "upstream": "127.0.0.1:9103",
        "request_id": "id",
        "user_agent": "agent",
        "trace_id": "a" * 32,
    }


@pytest.mark.parametrize(
    ("details", "status", "reason", "subject"),
    [
        ("sluice:forbidden:a%20b", 403, "forbidden", "a%20b"),
        ("sluice:unauthenticated", 401, "unauthenticated", ""),
        ("local_rate_limited", 429, "rate_limited", ""),
        ("response_timeout", 504, "model_timeout", ""),
        ("upstream_reset_before_response_started{overflow}", 503, "overloaded", ""),
        ("stream_idle_timeout", 504, "idle_timeout", ""),
        ("stream_idle_timeout", 408, "request_timeout", ""),
        ("something_new", 403, "forbidden", ""),
        ("something_new", 418, "gateway_error", ""),
    ],
)
def test_a_refusal_is_shown_with_its_reason(
    details: str, status: int, reason: str, subject: str
) -> None:
    shown = line(report(details=details, status=status, upstream=LogAddress()))
    assert (shown["reason"], shown["subject"]) == (reason, subject)
    assert (shown["model"], shown["version"]) == ("digits", "")
    assert (shown["upstream"], shown["upstream_ms"]) == ("", None)


def test_a_request_that_envoy_refuses_before_it_has_a_route_has_no_headers_of_the_gateway() -> None:
    """Envoy has not removed those of the client yet."""
    message = report(
        details="missing_host_header", status=400, upstream=LogAddress(),
        **ADMITTED, x_sluice_path="/forged", x_sluice_method="FORGED",
    )  # fmt: skip
    message.common_properties.route_name = ""
    shown = line(message)
    assert (shown["method"], shown["path"]) == ("POST", "/v2/models/digits/infer")
    assert (shown["model"], shown["version"], shown["subject"]) == ("", "", "")
    assert shown["request_id"] == ""


def test_refusals_that_differ_only_in_text_of_clients_have_one_outcome() -> None:
    """Otherwise, a flood of such requests would fill the cache of outcomes."""
    parser = ReportParser()
    first, second = (
        parser.parse(
            report(details=f"sluice:invalid_credentials;details=kid+{n}:user{n}", status=401)
        )
        for n in range(2)
    )
    assert first.outcome is second.outcome
    assert (first.details, second.details) == ("kid 0", "kid 1")
    assert (first.subject, second.subject) == ("user0", "user1")


def test_refused_credentials_are_shown_with_their_cause() -> None:
    details = "sluice:invalid_credentials;cause=expired"
    shown = line(report(details=details, status=401, upstream=LogAddress()))
    assert (shown["reason"], shown["cause"]) == ("invalid_credentials", "expired")


@pytest.mark.parametrize(
    ("details", "limit", "rule", "version", "shown"),
    [
        ("sluice:rate_limited;rule=per-user;version=v2:alice", "", "per-user", "v2", ""),
        ("sluice:breaker_open;version=v2;details=a+b:alice", "", "", "v2", "a b"),
        ("sluice:wrong_type;details=inputs[0].shape", "", "", "", "inputs[0].shape"),
        ("local_rate_limited", "limits.listener", "limits.listener", "", "local_rate_limited"),
        ("response_timeout", "", "", "", "response_timeout"),
    ],
)
def test_a_refusal_is_shown_with_its_cause(
    details: str, limit: str, rule: str, version: str, shown: str
) -> None:
    message = report(details=details, status=429, upstream=LogAddress())
    if limit:
        message.response.response_headers["x-sluice-limit"] = limit
    found = line(message)
    assert (found["rule"], found["version"], found["details"]) == (rule, version, shown)


def test_only_a_local_reply_is_shown_with_a_limit_of_envoy() -> None:
    message = report(**ADMITTED)
    message.response.response_headers["x-sluice-limit"] = "limits.listener"
    assert line(message)["rule"] == ""


@pytest.mark.parametrize(
    ("details", "grpc_status", "reason"),
    [
        ("stream_idle_timeout", "2", "request_timeout"),
        ("stream_idle_timeout", "14", "idle_timeout"),
        ("path_normalization_failed", "13", "bad_request"),
        ("something_new", "14", "unavailable"),
    ],
)
def test_a_local_reply_to_a_grpc_client_is_shown_with_the_reason_that_the_client_gets(
    details: str, grpc_status: str, reason: str
) -> None:
    """Envoy sends it with HTTP status 200."""
    message = report(details=details, upstream=LogAddress())
    message.response.response_headers["grpc-status"] = grpc_status
    assert line(message)["reason"] == reason


def test_response_flags_are_shown_by_envoys_short_names() -> None:
    flags = ResponseFlags(upstream_connection_failure=True, upstream_retry_limit_exceeded=True)
    assert line(report(flags=flags, **ADMITTED))["flags"] == "UF,URX"


def test_a_converted_request_is_shown_with_the_clients_path() -> None:
    shown = line(report(path="/inference.GRPCInferenceService/ModelInfer", x_sluice_path="/mine"))
    assert shown["path"] == "/mine"


def grpc_outcome(
    trailer: str | None = "0", header: str | None = None, **fields: Any
) -> GrpcOutcome:
    """The outcome of a gRPC call that took 1,234,567 microseconds."""
    message = report(**{"path": CALL, **fields}, **ADMITTED)
    if trailer is not None:
        message.response.response_trailers["grpc-status"] = trailer
    if header is not None:
        message.response.response_headers["grpc-status"] = header
    return ReportParser().parse(message).outcome.grpc


def test_the_grpc_status_comes_from_trailers_or_headers() -> None:
    assert grpc_outcome("0") == (0, True, False)
    assert grpc_outcome("14") == (14, True, False)
    assert grpc_outcome(None, "5") == (5, True, False)
    assert grpc_outcome(None, None) == (None, False, False)
    assert grpc_outcome("13", path="/custom.Service/Method") == (13, False, False)


@pytest.mark.parametrize("text", ["", "x", "-1", "17", "\u0661", "9" * 5000])
def test_an_invalid_grpc_status_is_unknown(text: str) -> None:
    assert grpc_outcome(text).status == 2


def test_a_status_that_did_not_come_from_the_model_server_is_ignored() -> None:
    assert grpc_outcome(None, "14", details="response_timeout").status is None
    assert grpc_outcome(None, "3", details="sluice:malformed_request").status is None
    # The gateway converted a REST request: the client did not speak gRPC.
    assert grpc_outcome("14", x_sluice_path="/mine").status is None


@pytest.mark.parametrize(
    ("timeout", "expired"),
    [("1S", True), ("1234m", True), ("1240m", True), ("1250m", False), ("2S", False), ("0n", True),
     ("1M", False), ("1H", False), ("1234567u", True), ("99999999n", True), ("soon", False),
     ("", False), ("1", False), ("123456789n", False)],
)  # fmt: skip
def test_a_failed_call_is_expired_if_its_deadline_had_passed(timeout: str, expired: bool) -> None:
    assert grpc_outcome("4", grpc_timeout=timeout).expired == expired
    flags = ResponseFlags(upstream_remote_reset=True)
    assert grpc_outcome(None, flags=flags, grpc_timeout=timeout).expired == expired
    assert not grpc_outcome("0", grpc_timeout=timeout).expired


def test_the_json_line_shows_the_grpc_status() -> None:
    message = report(path=CALL, **ADMITTED)
    message.response.response_trailers["grpc-status"] = "13"
    assert line(message)["grpc_status"] == 13
    assert line(message)["status"] == 200


def test_ipv6_and_unix_socket_addresses_are_shown() -> None:
    ipv6, pipe = LogAddress(), LogAddress()
    ipv6.socket_address.address, ipv6.socket_address.port_value = "::1", 80
    pipe.pipe.path = "/run/model.sock"
    assert line(report(upstream=ipv6))["upstream"] == "[::1]:80"
    assert line(report(upstream=pipe))["upstream"] == "/run/model.sock"


def test_requests_with_equal_outcomes_share_one_object() -> None:
    parser = ReportParser()
    one, other = parser.parse(report(**ADMITTED)), parser.parse(report(path="/b", **ADMITTED))
    assert one.outcome is other.outcome
    assert parser.parse(report(status=500, **ADMITTED)).outcome is not one.outcome
    called = [report(**ADMITTED) for _ in range(3)]
    for message, status in zip(called, ("0", "0", "14"), strict=True):
        message.response.response_trailers["grpc-status"] = status
    ok, same, failed = (parser.parse(message).outcome for message in called)
    assert ok is same
    assert len({ok, failed, one.outcome}) == 3


def entry(path: str) -> AccessLogEntry:
    return ReportParser().parse(report(path=path, **ADMITTED))


def test_the_text_line_shows_time_method_path_and_latency() -> None:
    assert text_line(entry("/a?b=c")) == b"[2023-11-14 22:13:20] POST /a 1.235s\n"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_path_gives_one_line_without_its_query(path: str) -> None:
    for format_line in (json_line, text_line):
        written = format_line(entry(f"{path}?secret"))
        assert written.endswith(b"\n")
        assert len(written.splitlines()) == 1
        assert b"secret" not in written or "secret" in path
    text = text_line(entry(path)).decode()
    assert len(text.splitlines()) == 1
    assert len(text.split(" ")) == 5


def test_a_long_path_is_truncated() -> None:
    assert len(str(line(report(path="/" * 10_000))["path"])) == MAX_TEXT


MEGABYTE = 1_000_000


@pytest.mark.parametrize(
    ("times", "response_bytes", "progress"),
    [
        ({}, 0, (False, False, False, False)),
        ({"rx": 0}, 0, (True, True, False, False)),
        ({"rx": 5, "first": 5, "last": 6}, 20, (True, True, True, False)),
        # The response began before the request was complete.
        ({"rx": 6, "first": 5, "last": 7}, 20, (True, False, True, False)),
        ({"first": 5, "last": 6}, 20, (False, False, True, False)),
        # The response is incomplete.
        ({"rx": 1, "first": 5}, 20, (True, True, True, True)),
        ({"rx": 1, "first": 5}, MEGABYTE, (True, True, True, False)),
    ],
)
def test_an_entry_says_how_far_the_request_got(
    times: dict[str, int], response_bytes: int, progress: tuple[bool, ...]
) -> None:
    message = HTTPAccessLogEntry()
    common = message.common_properties
    fields = {
        "rx": common.time_to_last_rx_byte,
        "first": common.time_to_first_upstream_rx_byte,
        "last": common.time_to_last_upstream_rx_byte,
    }
    for name, milliseconds in times.items():
        fields[name].SetInParent()
        fields[name].FromMilliseconds(milliseconds)
    message.response.response_body_bytes = response_bytes
    assert ReportParser().parse(message).progress == progress
