"""ext_authz over both transports: decisions as CheckResponses."""

import json
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from extproc.policy.current import CurrentPolicy
from extproc.rpc import StatusCode
from extproc.transport import TRANSPORTS, TransportName
from protos.ext_authz_pb2 import CheckRequest, CheckResponse
from sluice.contract.paths import EXT_AUTHZ
from tests.extproc.auth.key_server import ROTATED, keys_served, until_accepted
from tests.extproc.auth.tokens import OTHER_RSA, issuer, token
from tests.extproc.decision.requests import VERSIONS, bearer, document
from tests.extproc.services.callout import CalloutClient, callout, written

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_event_loop")]

PATH = "/v2/models/m/infer"


@pytest.fixture(params=TRANSPORTS)
async def client(request: pytest.FixtureRequest) -> AsyncIterator[CalloutClient]:
    current_policy = CurrentPolicy()
    current_policy.apply(document({"m": {}, "private": {"access": {}}}))
    async with callout(request.param, current_policy) as running:
        yield running


def check(
    path: str = PATH, *, method: str = "POST", raw: bool = False, size: int = 2, **headers: str
) -> CheckRequest:
    """A CheckRequest with headers as a map, or as a list with `encode_raw_headers`."""
    message = CheckRequest()
    http = message.attributes.request.http
    http.method, http.path, http.size = method, path, size
    named = {"content-type": "application/json"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in named.items():
        if raw:
            http.header_map.headers.add(key=name, raw_value=value.encode())
        else:
            http.headers[name] = value
    return message


def refusal(response: CheckResponse) -> tuple[int, str]:
    assert response.status.code != StatusCode.OK
    denied = response.denied_response
    body = json.loads(denied.body)
    assert body["status"] == denied.status.code
    assert written(denied.headers)["content-type"] == "application/problem+json"
    return body["status"], body["reason"]


@pytest.mark.parametrize("raw", [False, True])
async def test_an_admitted_request_gets_its_cluster(client: CalloutClient, raw: bool) -> None:
    response = await client.check(check(raw=raw, authorization=bearer(), x_model_version="v2"))
    assert response.status.code == StatusCode.OK
    assert written(response.ok_response.headers) == {
        "x-model-service": "m/v2",
        "x-model-version": "v2",
        "x-sluice-model": "m",
        "x-sluice-subject": "alice",
        "x-sluice-reason": "version_header",
    }
    assert list(response.ok_response.headers_to_remove) == ["authorization"]


async def test_header_values_are_sent_as_text(client: CalloutClient) -> None:
    response = await client.check(check())
    assert all(option.header.value for option in response.ok_response.headers)
    refused = await client.check(check("/nowhere"))
    assert all(option.header.value for option in refused.denied_response.headers)


async def test_forged_headers_are_removed_unless_the_gateway_sets_them(
    client: CalloutClient,
) -> None:
    """The filter removes headers after it sets them, so a name in both lists would be lost."""
    forged = check(x_sluice_subject="root", x_sluice_model="n")
    # Many servers read an underscore as a hyphen. The Envoy of a mesh accepts such names.
    aliases = ("x_sluice_subject", "x-model_service", "content_length")
    for name in (*aliases, "x_other"):
        forged.attributes.request.http.headers[name] = "1"
    response = await client.check(forged)
    assert written(response.ok_response.headers)["x-sluice-model"] == "m"
    assert set(response.ok_response.headers_to_remove) == {"x-sluice-subject", *aliases}


@pytest.mark.parametrize("raw", [False, True])
async def test_a_request_that_says_where_it_goes_is_refused(
    client: CalloutClient, raw: bool
) -> None:
    """An Envoy that does not match the route again after the decision would obey the client."""
    response = await client.check(check(raw=raw, x_model_service="n/v1"))
    assert refusal(response) == (400, "malformed_request")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (check("/v2/models/private/infer"), (401, "unauthenticated")),
        (check(authorization="Bearer x"), (401, "invalid_credentials")),
        (check("/v2/models/n/infer"), (404, "unknown_model")),
        (check(content_length=str(11 << 20)), (413, "body_too_large")),
        (check(content_type="text/html"), (415, "unsupported_media_type")),
        (CheckRequest(), (404, "unknown_model")),
    ],
    ids=lambda value: str(value[1]) if isinstance(value, tuple) else "",
)
async def test_a_refusal_is_a_problem_document(
    client: CalloutClient, request_: CheckRequest, expected: tuple[int, str]
) -> None:
    assert refusal(await client.check(request_)) == expected


async def test_a_grpc_client_gets_a_text_instead(client: CalloutClient) -> None:
    """Envoy copies the body to `grpc-message`."""
    refused = await client.check(check("/nowhere", content_type="application/grpc+proto"))
    denied = refused.denied_response
    assert (denied.status.code, denied.body) == (404, "no model has this path")
    assert "content-type" not in written(denied.headers)


@pytest.mark.parametrize(
    ("described", "status"),
    [
        (check(size=-1, content_type="text/html"), 415),
        (check(size=0, content_type="text/html"), 415),
        (check(size=-1, content_type="text/html", transfer_encoding="chunked"), 415),
        (check(size=-1, content_type="text/html", content_length="0"), 0),
        (check(size=-1, method="GET", path="/v2/models/m/ready", content_type="text/html"), 0),
    ],
    ids=["unknown size", "size not known yet", "chunked", "declared empty", "read"],
)
async def test_a_request_that_may_have_a_body_must_have_an_accepted_content_type(
    client: CalloutClient, described: CheckRequest, status: int
) -> None:
    response = await client.check(described)
    assert response.denied_response.status.code == status


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        ("/v2/models/g/infer", "POST", (415, "unsupported_media_type")),
        ("/v2/models/g/ready", "GET", (404, "unknown_operation")),
        ("/v2/models/g", "HEAD", (404, "unknown_operation")),
    ],
)
async def test_a_request_that_must_be_converted_is_refused(
    client: CalloutClient, path: str, method: str, expected: tuple[int, str]
) -> None:
    versions = {"v1": {**VERSIONS["v1"], "protocol": "grpc"}}
    client.current_policy.apply(document({"g": {"versions": versions}}))
    size = 2 if method == "POST" else 0
    assert refusal(await client.check(check(path, method=method, size=size))) == expected


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_without_a_policy_every_request_is_refused(transport: TransportName) -> None:
    async with callout(transport, CurrentPolicy()) as client:
        assert refusal(await client.check(check())) == (503, "no_policy")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_failed_decision_is_a_refusal(transport: TransportName) -> None:
    def broken() -> float:
        raise RuntimeError

    current_policy = CurrentPolicy()
    current_policy.apply(document())
    async with callout(transport, current_policy, broken) as client:
        assert refusal(await client.check(check())) == (500, "internal_error")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_token_with_a_new_key_is_admitted(transport: TransportName) -> None:
    with keys_served() as server:
        current_policy = CurrentPolicy()
        current_policy.apply(document(auth={"issuers": [issuer(jwks_uri=server.uri)]}))
        async with callout(transport, current_policy) as client:
            assert current_policy.current is not None
            await until_accepted(current_policy.current.authenticator, token())
            server.document = ROTATED
            rotated = f"Bearer {token(key=OTHER_RSA, kid='two')}"
            response = await client.check(check(authorization=rotated))
            assert written(response.ok_response.headers)["x-sluice-subject"] == "alice"


async def test_an_unreadable_message_ends_the_call_with_an_error(client: CalloutClient) -> None:
    call = client.channel.unary_unary(EXT_AUTHZ)(b"\xff\xff\xff", timeout=5)
    assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
