"""Edits of headers, of the method, and of the length of the body."""

import random
from dataclasses import replace
from typing import Final

from tests.integration.equality.population import Population
from tests.integration.equality.request import Request

_METHODS = (b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"post", b"POSTS")

_CONTENT_TYPES = (
    b"application/json; charset=utf-8", b"Application/JSON", b"application/json ", b"text/plain",
    b"application/json,application/json", b"application/grpc", b"application/grpc+proto", b"",
    b"image/png", b"image/", b"application/jsonx", b"application/grpc;a=b", b"image/png;q=1",
    b"application/json;", b"multipart/form-data; boundary=x", b"\xc3\xa9/x", b"x",
)  # fmt: skip

_ADDED: Final = (
    (b"x-model-version", b"v1"), (b"x-model-version", b"v2"), (b"x-model-version", b""),
    (b"x-model-version", b"v9"), (b"x-model-version", b"V1"), (b"X-Model-Version", b"stable"),
    (b"x-canary", b"true"), (b"x-canary", b"TRUE"), (b"x-canary", b"true, true"), (b"x-canary",
    b""),
    (b"x-beta", b"1"), (b"x-user", b"tester"), (b"x-model-type", b"text"), (b"x-model-type",
    b"image"),
    (b"x-model-type", b""), (b"x-user-id", b"77"), (b"x-tenant", b"t"), (b"x-user-id", b""),
    (b"x-api-key", b"sk-equality"), (b"x-api-key", b"wrong"), (b"x-key", b"sk-equality"),
    (b"x-api-key", b""), (b"x-model-service", b"a/v1"), (b"x-sluice-subject", b"root"),
    (b"x-sluice-canary", b"true"), (b"x-sluice-anything", b"1"), (b"X-Sluice-Model", b"m"),
    (b"upgrade", b"websocket"), (b"connection", b"x-user-id"), (b"connection", b"upgrade"),
    (b"te", b"trailers"), (b"x-model-name", b"a"), (b"expect", b"x"), (b"x-forwarded-for",
    b"1.2.3.4"),
    (b"authorization", b"Basic YTpi"), (b"proxy-authorization", b"Basic YTpi"),
    (b"x_model_version", b"v2"), (b"x-http-method-override", b"GET"), (b"content-encoding",
    b"gzip"),
    (b"x-envoy-original-path", b"/x"), (b"x-envoy-max-retries", b"3"), (b"x-jwt-payload", b"e30"),
    (b"x-request-id", b"mine"), (b"range", b"bytes=0-1"), (b"origin", b"https://web.test"),
    (b"grpc-timeout", b"1S"), (b"x-sluice", b"1"), (b"x-modelservice", b"a/v1"),
)  # fmt: skip


def add_header(rng: random.Random, request: Request, _: Population) -> Request:
    return request.adding(rng.choice(_ADDED))


def spoof_header(rng: random.Random, request: Request, _: Population) -> Request:
    """Replaces a header that the policy may read."""
    name, value = rng.choice(_ADDED)
    return request.with_header(name, value)


def upgrade(rng: random.Random, request: Request, _: Population) -> Request | None:
    """A request to switch to another protocol. With GET, it could be valid, and the model server of
    the test speaks no other protocol.
    """
    if request.method == b"GET":
        return None
    protocol = rng.choice((b"websocket", b"WebSocket", b"h2c", b"x"))
    connection = rng.choice((b"upgrade", b"Upgrade", b"keep-alive, Upgrade", b"upgrade, x-user-id"))
    return request.adding((b"upgrade", protocol), (b"connection", connection))


def drop_header(rng: random.Random, request: Request, _: Population) -> Request | None:
    if not request.headers:
        return None
    at = rng.randrange(len(request.headers))
    return replace(request, headers=request.headers[:at] + request.headers[at + 1 :])


def repeat_header(rng: random.Random, request: Request, _: Population) -> Request | None:
    repeatable = [each for each in request.headers if each[0] != b"content-length"]
    if not repeatable:
        return None
    name, value = rng.choice(repeatable)
    value = rng.choice((value, b"other", b""))
    if rng.random() < 0.5:
        return request.adding((name, value))
    return replace(request, headers=((name, value), *request.headers))


def change_header(rng: random.Random, request: Request, _: Population) -> Request | None:
    changeable = [n for n, _ in request.headers if n not in (b"content-length", b"authorization")]
    if not changeable:
        return None
    name = rng.choice(changeable)
    value = request.values(name)[0]
    changes = (value + b"x", value[:-1], value.upper(), value + b",", b" " + value, value + b"\t",
               value + b";", b"%" + value, value + b"\xff", value + b", " + value)  # fmt: skip
    return request.with_header(name, rng.choice(changes))


def change_name(rng: random.Random, request: Request, _: Population) -> Request | None:
    if not request.headers or request.http2:
        return None
    at = rng.randrange(len(request.headers))
    name, value = request.headers[at]
    name = rng.choice((name.upper(), name.replace(b"-", b"_"), name + b"-", name.title()))
    return replace(
        request, headers=(*request.headers[:at], (name, value), *request.headers[at + 1 :])
    )


def content_type(rng: random.Random, request: Request, _: Population) -> Request:
    return request.with_header(b"content-type", rng.choice((*_CONTENT_TYPES, None)))


def method(rng: random.Random, request: Request, _: Population) -> Request | None:
    method = rng.choice(_METHODS)
    if method == b"HEAD":
        return replace(request.with_header(b"content-length", None), method=method, body=None)
    return None if method == request.method else replace(request, method=method)


def length(rng: random.Random, request: Request, population: Population) -> Request | None:
    """Another body, or another way to say how long it is."""
    match rng.randrange(6):
        case 0:
            return request.with_header(b"content-length", None)
        case 1:
            return request.with_body(b"")
        case 2:
            return replace(request.with_header(b"content-length", None), body=None)
        case 3:
            limits = [m["max_body"] for m in population.world.models.values() if "max_body" in m]
            return request.with_body(b"x" * (rng.choice(limits or [1]) + rng.choice((0, 1))))
        case 4:
            return request.with_body(b"x" * rng.choice((2, 10, 100, 1000, 5000)))
        case _:
            body = request.body or b""
            return request.with_body(body).with_header(b"content-length", b"00%d" % len(body))
