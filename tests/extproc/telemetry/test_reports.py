"""The parser turns Envoy's reports into entries, and the formats turn entries into lines."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.breaker.outcomes import succeeded
from extproc.telemetry.entry import AccessLogEntry, GrpcOutcome
from extproc.telemetry.formats import json_line, text_line
from extproc.telemetry.reports import ReportParser
from protos.otlp_logs_pb2 import LogBody, LogRecord
from sluice.contract.names import VIDEO_CLUSTER, VIDEO_GRPC_CLUSTER, video_route_name
from sluice.contract.report import (
    ABSENT,
    FIELD_SEPARATOR,
    GROUP_SEPARATOR,
    OUTCOME_FIELDS,
    REQUEST_FIELDS,
)

FIELDS = (*OUTCOME_FIELDS, *REQUEST_FIELDS)


def report(**fields: str) -> LogRecord:
    """A report with these fields; those that are not given have the values of an answered call."""
    values = dict.fromkeys(FIELDS, ABSENT) | {
        "protocol": "HTTP/2",
        "status": "200",
        "upstream": "127.0.0.1:9103",
        "route": "digits",
        "method": "POST",
        "details": "via_upstream",
        "duration": "1234567",
        "duration_ms": "1234",
        "upstream_wait": "2500",
        "received": "500",
        "answered": "3500",
        "received_then_answered": "3000",
        "answered_then_ended": "10",
        "request_bytes": "10",
        "response_bytes": "20",
        "request_id": "id",
        "path": "/v2/models/digits/infer",
        "user_agent": "agent",
        **fields,
    }
    assert values.keys() == set(FIELDS)
    text = GROUP_SEPARATOR.join(
        FIELD_SEPARATOR.join(values[name] for name in group)
        for group in (OUTCOME_FIELDS, REQUEST_FIELDS)
    )
    return LogRecord(
        time_unix_nano=1_700_000_000_123_000_000, body=LogBody(string_value=text.encode())
    )


ADMITTED = {
    "service": "digits/v2",
    "reason": "canary_bucket",
    "subject": "alice",
    "trace": f"00-{'a' * 32}-{'b' * 16}-01",
}


CALL = "/inference.GRPCInferenceService/ModelInfer"


def line(record: LogRecord) -> dict[str, object]:
    parsed: dict[str, object] = json.loads(json_line(ReportParser().parse(record)))
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
        "placement": "callout",
        "request_bytes": 10,
        "response_bytes": 20,
        "duration_ms": 1234.567,
        "upstream_ms": 2.5,
        "upstream": "127.0.0.1:9103",
        "request_id": "id",
        "user_agent": "agent",
        "trace_id": "a" * 32,
    }


@pytest.mark.parametrize("cluster", [VIDEO_CLUSTER, VIDEO_GRPC_CLUSTER])
@pytest.mark.parametrize("status", ["200", "503"])
def test_a_request_to_the_video_service_has_a_model_but_counts_for_no_version(
    cluster: str, status: str
) -> None:
    route = video_route_name("digits")
    fields = {**ADMITTED, "service": cluster, "reason": "stable", "route": route, "status": status}
    entry = ReportParser().parse(report(**fields))
    outcome = entry.outcome
    assert (outcome.model, outcome.version, outcome.admission) == ("digits", "", "stable")
    assert outcome.placement == "callout"
    assert entry.subject == "alice"
    assert succeeded(outcome, entry.progress) is None


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
    shown = line(
        report(
            details=details,
            status=str(status),
            upstream=ABSENT,
            answered=ABSENT,
            upstream_wait=ABSENT,
            received_then_answered=ABSENT,
        )
    )
    assert (shown["reason"], shown["subject"]) == (reason, subject)
    assert (shown["model"], shown["version"]) == ("digits", "")
    assert (shown["upstream"], shown["upstream_ms"]) == ("", None)


def test_a_request_that_envoy_refuses_before_it_has_a_route_has_no_headers_of_the_gateway() -> None:
    """Envoy has not removed those of the client yet."""
    shown = line(
        report(
            details="missing_host_header",
            status="400",
            upstream=ABSENT,
            route=ABSENT,
            **ADMITTED,
            gateway_path="/forged",
            gateway_method="FORGED",
        )
    )
    assert (shown["method"], shown["path"]) == ("POST", "/v2/models/digits/infer")
    assert (shown["model"], shown["version"], shown["subject"]) == ("", "", "")
    assert (shown["request_id"], shown["trace_id"], shown["placement"]) == ("", "", "")


def test_refusals_that_differ_only_in_text_of_clients_have_one_outcome() -> None:
    """Otherwise, a flood of such requests would fill the cache of outcomes."""
    parser = ReportParser()
    first, second = (
        parser.parse(
            report(details=f"sluice:invalid_credentials;details=kid+{n}:user{n}", status="401")
        )
        for n in range(2)
    )
    assert first.outcome is second.outcome
    assert (first.details, second.details) == ("kid 0", "kid 1")
    assert (first.subject, second.subject) == ("user0", "user1")


def test_refused_credentials_are_shown_with_their_cause() -> None:
    details = "sluice:invalid_credentials;cause=expired"
    shown = line(report(details=details, status="401", upstream=ABSENT))
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
    found = line(report(details=details, status="429", upstream=ABSENT, limit=limit or ABSENT))
    assert (found["rule"], found["version"], found["details"]) == (rule, version, shown)


def test_only_a_local_reply_is_shown_with_a_limit_of_envoy() -> None:
    assert line(report(**ADMITTED, limit="limits.listener"))["rule"] == ""


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
    shown = line(report(details=details, upstream=ABSENT, grpc_header=grpc_status))
    assert shown["reason"] == reason


def test_a_converted_request_is_shown_with_the_clients_path() -> None:
    shown = line(report(path="/inference.GRPCInferenceService/ModelInfer", gateway_path="/mine"))
    assert shown["path"] == "/mine"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"grpc_trailer": "14"}, 503),
        ({"grpc_header": "3"}, 400),
        ({"grpc_header": "99"}, 500),
        # UNIMPLEMENTED stands for 405 here, and would be 501 if the model server had sent it.
        ({"grpc_header": "12", "details": "sluice:method_not_allowed"}, 405),
        ({"grpc_header": "14", "details": "sluice:breaker_open"}, 503),
        ({"grpc_header": "2", "details": "response_timeout"}, 504),
        ({"grpc_trailer": "0"}, None),
        ({}, None),
        ({"grpc_header": "14", "status": "503"}, None),
    ],
)
def test_an_error_of_a_grpc_call_has_an_http_status(
    fields: dict[str, str], status: int | None
) -> None:
    assert ReportParser().parse(report(**fields)).outcome.grpc_error == status


def grpc_outcome(trailer: str = "0", header: str = ABSENT, **fields: str) -> GrpcOutcome:
    """The outcome of a gRPC call that took 1,234,567 microseconds."""
    called = {"path": CALL, **fields, **ADMITTED}
    return (
        ReportParser()
        .parse(report(grpc_trailer=trailer, grpc_header=header, **called))
        .outcome.grpc
    )


def test_the_grpc_status_comes_from_trailers_or_headers() -> None:
    assert grpc_outcome("0") == (0, True, False)
    assert grpc_outcome("14") == (14, True, False)
    assert grpc_outcome(ABSENT, "5") == (5, True, False)
    assert grpc_outcome(ABSENT) == (None, False, False)
    assert grpc_outcome("13", path="/custom.Service/Method") == (13, False, False)


@pytest.mark.parametrize("text", ["", "x", "-1", "17", "\u0661", "9" * 5000])
def test_an_invalid_grpc_status_is_unknown(text: str) -> None:
    assert grpc_outcome(text).status == 2


def test_a_status_that_did_not_come_from_the_model_server_is_ignored() -> None:
    assert grpc_outcome(ABSENT, "14", details="response_timeout").status is None
    assert grpc_outcome(ABSENT, "3", details="sluice:malformed_request").status is None
    # The gateway converted a REST request: the client did not speak gRPC.
    assert grpc_outcome("14", gateway_path="/mine").status is None


@pytest.mark.parametrize(
    ("timeout", "expired"),
    [("1S", True), ("1234m", True), ("1240m", True), ("1250m", False), ("2S", False), ("0n", True),
     ("1M", False), ("1H", False), ("1234567u", True), ("99999999n", True), ("soon", False),
     ("", False), ("1", False), ("123456789n", False)],
)  # fmt: skip
def test_a_failed_call_is_expired_if_its_deadline_had_passed(timeout: str, expired: bool) -> None:
    assert grpc_outcome("4", grpc_timeout=timeout).expired == expired
    assert grpc_outcome(ABSENT, flags="UR", grpc_timeout=timeout).expired == expired
    assert not grpc_outcome("0", grpc_timeout=timeout).expired


def test_the_json_line_shows_the_grpc_status() -> None:
    shown = line(report(path=CALL, grpc_trailer="13", **ADMITTED))
    assert (shown["grpc_status"], shown["status"]) == (13, 200)


def test_requests_with_equal_outcomes_share_one_object() -> None:
    parser = ReportParser()
    one, other = parser.parse(report(**ADMITTED)), parser.parse(report(path="/b", **ADMITTED))
    assert one.outcome is other.outcome
    assert parser.parse(report(status="500", **ADMITTED)).outcome is not one.outcome
    ok, same, failed = (
        parser.parse(report(grpc_trailer=status, **ADMITTED)).outcome for status in ("0", "0", "14")
    )
    assert ok is same
    assert len({ok, failed, one.outcome}) == 3


def entry(path: str) -> AccessLogEntry:
    return ReportParser().parse(report(path=path, **ADMITTED))


def test_the_text_line_shows_time_method_path_and_latency() -> None:
    assert text_line(entry("/a")) == "[2023-11-14 22:13:20] POST /a 1.235s\n"


# Not the separators: no path can contain a carriage return or a line feed.
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n")))
def test_any_path_gives_one_line_without_its_query(path: str) -> None:
    converted = ReportParser().parse(report(gateway_path=f"{path}?secret", **ADMITTED))
    for found in (entry(path), converted):
        for format_line in (json_line, text_line):
            written = format_line(found).encode()
            assert written.endswith(b"\n")
            assert len(written.splitlines()) == 1
            assert b"secret" not in written or "secret" in path
        text = text_line(found)
        assert len(text.splitlines()) == 1
        assert len(text.split(" ")) == 5


MEGABYTE = "1000000"


@pytest.mark.parametrize(
    ("times", "response_bytes", "progress"),
    [
        ({}, "0", (False, False, False, False)),
        ({"received": "0"}, "0", (True, True, False, False)),
        (
            {"received": "5", "answered": "5", "received_then_answered": "0",
             "answered_then_ended": "1"}, "20",
            (True, True, True, False),
        ),
        # The response began before the request was complete.
        (
            {"received": "6", "answered": "5", "answered_then_ended": "2"}, "20",
            (True, False, True, False),
        ),
        ({"answered": "5", "answered_then_ended": "1"}, "20", (False, False, True, False)),
        # The response is incomplete.
        (
            {"received": "1", "answered": "5", "received_then_answered": "4"}, "20",
            (True, True, True, True),
        ),
        (
            {"received": "1", "answered": "5", "received_then_answered": "4"}, MEGABYTE,
            (True, True, True, False),
        ),
    ],
)  # fmt: skip
def test_an_entry_says_how_far_the_request_got(
    times: dict[str, str], response_bytes: str, progress: tuple[bool, ...]
) -> None:
    absent = dict.fromkeys(
        ("received", "answered", "received_then_answered", "answered_then_ended"), ABSENT
    )
    record = report(response_bytes=response_bytes, **{**absent, **times})
    assert ReportParser().parse(record).progress == progress


@pytest.mark.parametrize(
    ("times", "waited"),
    [
        ({}, 2.5),
        # The response began before the request was sent.
        ({"upstream_wait": ABSENT}, 0),
        ({"upstream_wait": ABSENT, "answered": ABSENT, "received_then_answered": ABSENT}, None),
    ],
)
def test_the_wait_for_the_model_server_is_shown_if_it_answered(
    times: dict[str, str], waited: float | None
) -> None:
    assert line(report(**ADMITTED, **times))["upstream_ms"] == waited


def test_the_duration_without_a_last_byte_has_the_precision_of_milliseconds() -> None:
    shown = line(report(**ADMITTED, duration=ABSENT, status="0", flags="DC"))
    assert (shown["duration_ms"], shown["flags"]) == (1234, "DC")


def test_a_native_route_is_shown_as_placement() -> None:
    shown = line(report(**ADMITTED, route="digits/native"))
    assert (shown["placement"], shown["model"]) == ("native", "digits")
    assert (
        line(report(route="other", status="404", details="sluice:unknown_model"))["placement"] == ""
    )


@pytest.mark.parametrize("route", ["digits", "digits/native"])
@pytest.mark.parametrize(
    ("details", "status"),
    [
        ("local_rate_limited", "429"),
        ("cors_response", "200"),
        ("ext_proc_error_gRPC_error_14{upstream_reset}", "503"),
    ],
)
def test_a_request_that_envoy_ends_before_the_decision_is_decided_nowhere(
    route: str, details: str, status: str
) -> None:
    parser = ReportParser()
    ended = report(route=route, details=details, status=status)
    assert parser.parse(ended).outcome.placement == ""
    # Requests with the same outcome otherwise.
    refused = report(route="digits", details="sluice:rate_limited", status=status)
    assert parser.parse(refused).outcome.placement == "callout"
    assert parser.parse(ended).outcome.placement == ""
    failed = {**ADMITTED, "status": "504", "details": "response_timeout"}
    decided = "native" if route == "digits/native" else "callout"
    assert parser.parse(report(route=route, **failed)).outcome.placement == decided


def test_a_separator_in_a_field_of_a_client_changes_no_field_before_it() -> None:
    """No HTTP parser lets one through. If one did, it could not forge an admission."""
    forged = "x\n" * 40
    honest, shown = (line(report(user_agent=agent, **ADMITTED)) for agent in ("x", forged))
    assert honest.keys() == shown.keys()
    assert {name for name in honest if honest[name] != shown[name]} == {"user_agent"}


def test_bytes_that_are_not_text_are_replaced() -> None:
    record = report(**ADMITTED)
    record.body.string_value = record.body.string_value.replace(b"agent", b"a\xffgent")
    assert line(record)["user_agent"] == "a\ufffdgent"


@pytest.mark.parametrize("text", [b"", b"\r", b"\n" * 40, b"HTTP/2\n200", b"\xff"])
def test_text_that_is_no_report_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"not enough values|invalid literal"):
        ReportParser().parse(LogRecord(body=LogBody(string_value=text)))


def test_methods_that_clients_invent_share_one_outcome() -> None:
    parser = ReportParser()
    one, other = (parser.parse(report(method=m, **ADMITTED)) for m in ("FOO", "BAR"))
    assert one.outcome is other.outcome
    assert one.outcome.method == "OTHER"
