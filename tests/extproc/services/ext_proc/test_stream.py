"""ext_proc over both transports: the responses that Envoy gets for a request."""

import gzip
import json
import logging
import struct

import grpc
import grpc.aio
import pytest

from extproc.policy.current import CurrentPolicy
from extproc.rpc import ExhaustionHandler, StatusCode
from extproc.transport import TRANSPORTS, TransportName
from protos.ext_proc_pb2 import (
    BodyResponse,
    HttpBody,
    HttpHeaders,
    HttpTrailers,
    ProcessingMode,
    ProcessingRequest,
    ProcessingResponse,
)
from protos.inference_pb2 import ModelReadyRequest
from sluice.contract.paths import EXT_PROC
from tests.extproc.auth.key_server import ROTATED, keys_served, until_accepted
from tests.extproc.auth.tokens import OTHER_RSA, issuer, token
from tests.extproc.decision.requests import bearer, document
from tests.extproc.services.callout import CalloutClient, Pairs, body, callout, headers, written
from tests.extproc.services.ext_proc.recorded_call import RecordedCall
from tests.extproc.services.ext_proc.streams import (
    DECLARED,
    GRPC_INFER,
    INFER,
    POST,
    PRIVATE,
    grpc_refusal,
    models,
    mutation,
    problem,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_event_loop")]


async def test_an_admitted_request_gets_its_cluster_in_one_response(client: CalloutClient) -> None:
    response = await client.send_headers(DECLARED)
    assert mutation(response) == (
        {
            "x-model-service": "m/v1",
            "x-model-version": "v1",
            "x-sluice-model": "m",
            "x-sluice-reason": "stable",
        },
        [],
    )
    assert not response.HasField("mode_override")


async def test_the_model_server_gets_the_canary_and_the_subject(client: CalloutClient) -> None:
    sent, _ = mutation(
        await client.send_headers((*DECLARED, ("x-canary", "true"), ("authorization", bearer())))
    )
    assert sent["x-model-service"] == "m/v2"
    assert sent["x-sluice-canary"] == "true"
    assert sent["x-sluice-subject"] == "alice"


async def test_internal_headers_of_the_client_are_removed(client: CalloutClient) -> None:
    forged = (
        ("x-model-service", "private/v1"),
        ("x-sluice-subject", "root"),
        ("x-sluice-anything", "1"),
    )
    sent, removed = mutation(await client.send_headers((*DECLARED, *forged)))
    assert sent["x-model-service"] == "m/v1"
    assert set(removed) == {"x-sluice-subject", "x-sluice-anything"}


async def test_credentials_are_removed_unless_forward_credentials_is_set(
    client: CalloutClient,
) -> None:
    pairs = (*DECLARED, ("authorization", bearer()), ("proxy-authorization", "Basic YTpi"))
    assert mutation(await client.send_headers(pairs))[1] == ["authorization", "proxy-authorization"]
    client.current_policy.apply(models(auth={"issuers": [issuer()], "forward_credentials": True}))
    assert mutation(await client.send_headers(pairs))[1] == []


async def test_a_new_policy_applies_to_the_next_request(client: CalloutClient) -> None:
    assert mutation(await client.send_headers(DECLARED))[0]["x-model-version"] == "v1"
    client.current_policy.apply(document({"m": {"stable": "v3"}}))
    assert mutation(await client.send_headers(DECLARED))[0]["x-model-version"] == "v3"


async def test_a_refusal_is_a_problem_document_with_its_reason(client: CalloutClient) -> None:
    response = await client.send_headers((*PRIVATE, ("x-request-id", "id-7")), end_of_stream=True)
    assert problem(response) == (401, "unauthenticated")
    assert "id-7" in json.loads(response.immediate_response.body)["instance"]
    sent = written(response.immediate_response.headers.set_headers)
    assert sent["www-authenticate"] == 'Bearer realm="sluice"'
    assert "x-sluice-reason" not in sent
    assert not response.immediate_response.HasField("grpc_status")


async def test_the_reason_is_a_header_with_expose_reason(client: CalloutClient) -> None:
    client.current_policy.apply(models(requests={"expose_reason": True}))
    response = await client.send_headers(PRIVATE, end_of_stream=True)
    sent = written(response.immediate_response.headers.set_headers)
    assert sent["x-sluice-reason"] == "unauthenticated"


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (PRIVATE, (StatusCode.UNAUTHENTICATED, "unauthenticated")),
        (((":method", "POST"), (":path", "/x")), (StatusCode.NOT_FOUND, "unknown_model")),
        (
            (*POST[:2], ("content-length", "11")),
            (StatusCode.RESOURCE_EXHAUSTED, "body_too_large"),
        ),
    ],
)
async def test_a_grpc_client_is_refused_with_a_grpc_status_and_text(
    client: CalloutClient, pairs: Pairs, expected: tuple[StatusCode, str]
) -> None:
    response = await client.send_headers((*pairs, ("content-type", "application/grpc+proto")))
    assert grpc_refusal(response) == expected


@pytest.mark.parametrize("content_type", ["application/grpc-web", "application/grpc;x=1"])
async def test_a_client_that_envoy_does_not_answer_in_grpc_gets_a_problem_document(
    client: CalloutClient, content_type: str
) -> None:
    pairs = ((":method", "POST"), (":path", "/x"), ("content-type", content_type))
    assert problem(await client.send_headers(pairs)) == (404, "unknown_model")


async def test_repeated_headers_are_joined_and_match_nothing(client: CalloutClient) -> None:
    twice = (("authorization", bearer()), ("authorization", bearer()))
    assert problem(await client.send_headers((*DECLARED, *twice))) == (401, "invalid_credentials")
    versions = (("x-model-version", "v2"), ("x-model-version", "v2"))
    assert problem(await client.send_headers((*DECLARED, *versions))) == (404, "unknown_version")


async def test_a_body_of_undeclared_length_is_counted(client: CalloutClient) -> None:
    first, second, third = await client.process(
        headers(POST), body(b"12345"), body(b"67890", end_of_stream=True)
    )
    assert mutation(first)
    assert first.mode_override.request_body_mode == ProcessingMode.STREAMED
    assert second == third
    assert second.WhichOneof("response") == "request_body"
    assert not second.request_body.response.HasField("body_mutation")


async def test_a_counted_body_that_is_too_large_is_refused(client: CalloutClient) -> None:
    responses = await client.process(headers(POST), body(b"12345"), body(b"678901"))
    assert problem(responses[2]) == (413, "body_too_large")


async def test_the_refusal_of_a_counted_body_fits_the_request_headers(
    client: CalloutClient,
) -> None:
    too_large = body(b"12345678901")
    *_, response = await client.process(headers((*POST, ("x-request-id", "id-7"))), too_large)
    assert "id-7" in json.loads(response.immediate_response.body)["instance"]
    grpc_call = headers((*POST[:2], ("content-type", "application/grpc")))
    *_, response = await client.process(grpc_call, too_large)
    assert grpc_refusal(response) == (StatusCode.RESOURCE_EXHAUSTED, "body_too_large")


@pytest.mark.parametrize(
    ("pairs", "counted"),
    [
        ((*POST, ("upgrade", "h2c")), True),
        ((*POST, ("content-type", "application/grpc")), True),
        (((":method", "GET"), POST[1], ("upgrade", "websocket")), False),
        (
            (
                (":method", "POST"),
                (":path", "/custom.Service/Method"),
                ("content-type", "application/grpc"),
            ),
            False,
        ),
        (GRPC_INFER, True),
        ((*GRPC_INFER, (":path", "/inference.GRPCInferenceService/ServerLive")), True),
    ],
    ids=[
        "upgrade to HTTP/2",
        "gRPC to REST",
        "WebSocket",
        "gRPC to gRPC",
        "of a model",
        "of a server",
    ],
)
async def test_only_streams_are_not_counted(
    client: CalloutClient, pairs: Pairs, counted: bool
) -> None:
    response = await client.send_headers(dict(pairs).items())
    assert mutation(response)
    assert response.HasField("mode_override") == counted


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_grpc_message_for_another_model_is_refused(
    client: CalloutClient, compressed: bool
) -> None:
    path = "/inference.GRPCInferenceService/ModelStreamInfer"
    called = tuple(dict((*GRPC_INFER, (":path", path), ("grpc-encoding", "gzip"))).items())
    good, bad = (
        struct.pack(">BI", compressed, len(message)) + message
        for name in ("g", "private")
        for message in [ModelReadyRequest(name=name).SerializeToString()]
        for message in [gzip.compress(message) if compressed else message]
    )
    _, first, second = await client.process(headers(called), body(good), body(good[:3]))
    assert first == second == ProcessingResponse(request_body=BodyResponse())
    *_, refused = await client.process(headers(called), body(good), body(bad, end_of_stream=True))
    assert grpc_refusal(refused) == (StatusCode.PERMISSION_DENIED, "model_mismatch")


async def test_a_grpc_call_without_a_message_is_refused(client: CalloutClient) -> None:
    *_, refused = await client.process(headers(GRPC_INFER), body(b"", end_of_stream=True))
    assert grpc_refusal(refused) == (StatusCode.INVALID_ARGUMENT, "malformed_request")


async def test_a_grpc_call_with_request_trailers_is_refused(
    client: CalloutClient,
) -> None:
    trailers = ProcessingRequest(request_trailers=HttpTrailers())
    first, _, refused = await client.process(headers(GRPC_INFER), body(b"\0\0\0"), trailers)
    assert first.mode_override.request_trailer_mode == ProcessingMode.SEND
    assert grpc_refusal(refused) == (StatusCode.INVALID_ARGUMENT, "malformed_request")


async def test_a_grpc_server_always_gets_te_trailers(
    client: CalloutClient,
) -> None:
    added, _ = mutation(await client.send_headers(dict(GRPC_INFER).items()))
    assert added["te"] == "trailers"
    added, _ = mutation(await client.send_headers(POST))
    assert "te" not in added


async def test_parts_that_were_not_requested_pass(client: CalloutClient) -> None:
    later = [
        ProcessingRequest(request_trailers=HttpTrailers()),
        ProcessingRequest(response_headers=HttpHeaders()),
        ProcessingRequest(response_body=HttpBody(body=b"x")),
        ProcessingRequest(response_trailers=HttpTrailers()),
    ]
    _, *responses = await client.process(headers(DECLARED), *later)
    for message, response in zip(later, responses, strict=True):
        assert response.WhichOneof("response") == message.WhichOneof("request")


async def test_a_body_without_headers_is_refused(client: CalloutClient) -> None:
    (response,) = await client.process(body(b"1"))
    assert problem(response)[0] == 413


@pytest.mark.parametrize("content_type", ["application/json", "application/grpc"])
async def test_a_refusal_after_a_cached_admission_fits_the_request_headers(
    client: CalloutClient, content_type: str
) -> None:
    declared = (*POST[:2], ("content-type", content_type), ("content-length", "2"))
    for number in range(3):  # the second request is cached, the third finds it
        pairs = (*declared, ("x-request-id", f"5d3a2f4e-9a0c-4a64-9df4-5a7a4f0f7b1{number}"))
        first, refused = await client.process(headers(pairs), body(b"12345678901"))
        assert mutation(first)
        if content_type == "application/grpc":
            assert grpc_refusal(refused) == (StatusCode.RESOURCE_EXHAUSTED, "body_too_large")
        else:
            assert problem(refused) == (413, "body_too_large")
            instance = json.loads(refused.immediate_response.body)["instance"]
            assert instance.endswith(dict(pairs)["x-request-id"])
    assert client.admission_cache_hits() == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_without_a_policy_every_request_is_refused(transport: TransportName) -> None:
    async with callout(transport, CurrentPolicy()) as client:
        assert problem(await client.send_headers(DECLARED)) == (503, "no_policy")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_failed_decision_is_a_refusal_and_logs_no_secret(
    transport: TransportName, caplog: pytest.LogCaptureFixture
) -> None:
    presented = bearer()

    def broken() -> float:
        raise RuntimeError(presented)

    current_policy = CurrentPolicy()
    current_policy.apply(models())
    with caplog.at_level(logging.DEBUG):
        async with callout(transport, current_policy, broken) as client:
            pairs = (*DECLARED, ("authorization", presented))
            assert problem(await client.send_headers(pairs)) == (500, "internal_error")
    assert "RuntimeError" in caplog.text
    assert presented not in caplog.text


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_token_with_a_new_key_is_admitted(transport: TransportName) -> None:
    with keys_served() as server:
        current_policy = CurrentPolicy()
        current_policy.apply(models(auth={"issuers": [issuer(jwks_uri=server.uri)]}))
        async with callout(transport, current_policy) as client:
            assert current_policy.current is not None
            await until_accepted(current_policy.current.authenticator, token())
            server.document = ROTATED
            rotated = f"Bearer {token(key=OTHER_RSA, kid='two')}"
            sent, _ = mutation(await client.send_headers((*DECLARED, ("authorization", rotated))))
            assert sent["x-sluice-subject"] == "alice"
            response = await client.send_headers((*DECLARED, ("authorization", bearer())))
            assert problem(response) == (401, "invalid_credentials")


@pytest.mark.parametrize(
    ("too_large", "expected"), [(False, (503, "memory_exhausted")), (True, (413, "body_too_large"))]
)
async def test_only_a_body_that_can_fit_later_should_be_sent_again(
    client: CalloutClient, *, too_large: bool, expected: tuple[int, str]
) -> None:
    call = RecordedCall()
    stream = client.processor.open(call)
    stream.on_message(headers(INFER).SerializeToString())
    assert isinstance(stream, ExhaustionHandler)
    stream.on_exhausted(too_large=too_large)
    refused = call.responses[-1]
    assert problem(refused) == expected
    names = [h.header.key for h in refused.immediate_response.headers.set_headers]
    assert ("retry-after" in names) is not too_large


async def test_an_unreadable_message_ends_the_call_with_an_error(client: CalloutClient) -> None:
    call = client.channel.stream_stream(EXT_PROC)(timeout=5)
    await call.write(b"\xff\xff\xff")
    assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
