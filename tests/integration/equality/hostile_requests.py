"""Hostile requests apart from tokens: headers, versions, buckets, paths, bodies and upgrades."""

from collections.abc import Iterator
from dataclasses import replace

from tests.integration.equality.hostile_config import JSON, Case, call, post


def headers_cases() -> Iterator[Case]:
    for name in (
        b"x-sluice-subject", b"x-sluice-canary", b"X-Sluice-Model", b"x-sluice-reason",
        b"x-sluice-anything", b"x-model-service", b"x-sluice-token-subject", b"X-Model-Service",
        b"x-sluice-path", b"x-sluice-method", b"x-sluice-ratelimit",
    ):  # fmt: skip
        forged = (name, b"m/v2")
        label = name.decode()
        yield Case(f"{label} from a client", call("m", forged), native=True)
        yield Case(f"{label} for a public model", post("public", forged), native=True)
        yield Case(f"{label} without a token", post("m", forged))
        h2 = replace(call("m", (name.lower(), b"m/v2")), http2=True)
        yield Case(f"{label} over HTTP/2", h2, native=True)
    yield Case("a header with an underscore", call("m", (b"x_sluice_subject", b"root")))
    yield Case("a header with NUL", call("m", (b"x-other", b"a\0b")))
    yield Case("a header with a line break", call("m", (b"x-other", b"a\r\nx-sluice-subject: b")))
    yield Case("a folded header", call("m", (b"x-other", b"a\r\n x-sluice-subject: b")))
    yield Case(
        "a header with LF over HTTP/2", replace(call("m", (b"x-other", b"a\nb")), http2=True)
    )
    yield Case(
        "a name in upper case over HTTP/2", replace(call("m", (b"X-Other", b"a")), http2=True)
    )
    yield Case(
        "a header with bytes after ASCII", call("m", (b"x-other", b"\xc3\xa9\xff")), native=True
    )
    yield Case("connection names the subject", call("m", (b"connection", b"x-sluice-subject")))
    yield Case("connection names the token", call("m", (b"connection", b"authorization")))
    yield Case("connection names the version",
               call("m", (b"x-model-version", b"v2"), (b"connection",
               b"x-model-version")))  # fmt: skip
    yield Case("x-model-name", call("m", (b"x-model-name", b"staff")), native=True)
    yield Case("a method override", call("m", (b"x-http-method-override", b"DELETE")), native=True)
    yield Case("x-envoy headers", call("m", (b"x-envoy-original-path", b"/x"),
                                       (b"x-envoy-upstream-rq-timeout-ms", b"1")),
                                       native=True)  # fmt: skip
    yield Case("a cookie", call("m", (b"cookie", b"a=b")), native=True)


def versions_cases() -> Iterator[Case]:
    for value, native in (
        (b"v1", True), (b"v2", True), (b"v10", True), (b"v", False), (b"V2", False), (b"", False),
        (b"v9", False), (b"v2,v2", False), (b"v2\xff", False), (b"%762", False), (b"v1, v2", False),
    ):  # fmt: skip
        yield Case(f"version {value!r}", call("m", (b"x-model-version", value)), native=native)
        h2 = replace(call("m", (b"x-model-version", value)), http2=True)
        yield Case(f"version {value!r} over HTTP/2", h2, native=native)
    twice = ((b"x-model-version", b"v2"), (b"x-model-version", b"v2"))
    yield Case("the version twice", call("m", *twice))
    yield Case("two versions", call("m", twice[0], (b"X-Model-Version", b"v10")))
    yield Case("an empty version and another", call("m", (b"x-model-version", b""), twice[0]))
    path = b"/v2/models/m/versions/%b/infer"
    for value, native in (
        (b"v1", True), (b"v2", True), (b"v10", True), (b"v9", False), (b"", False), (b"%762",
        False),
        (b"v2/", False), (b"v2/versions/v2", False), (b"V2", False), (b"v2;x", False),
    ):  # fmt: skip
        yield Case(f"version {value!r} in the path", call("m", path=path % value), native=native)
    header = (b"x-model-version", b"v2")
    yield Case("the same version in both", call("m", header, path=path % b"v2"))
    yield Case("two versions in path and header", call("m", header, path=path % b"v10"))
    for value in (b"v1", b"v2"):
        yield Case(f"version {value!r} despite a canary", post("half", (b"x-model-version", value),
                   (b"x-canary", b"true"), (b"x-user-id", b"7")), native=True)  # fmt: skip


def buckets_cases() -> Iterator[Case]:
    user = b"x-user-id"
    for value in (b"1", b"2", b"3", b"4", b"5", b"user-6", b"x" * 500):
        yield Case(f"user {value[:9]!r}", post("half", (user, value)), native=True)
        yield Case(f"user {value[:9]!r} over HTTP/2", replace(post("half", (user, value)),
        http2=True),
                   native=True)  # fmt: skip
        yield Case(f"user {value[:9]!r}, modulo", call("modulo", (user, value)))
    for value in (b"a,b", b"\xc3\xa9", b"", b"%41"):
        native = value == b"%41"
        yield Case(f"user {value!r}", post("half", (user, value)), native=native)
    yield Case("a user with blanks over HTTP/2", replace(post("half", (user, b" 7 ")), http2=True))
    yield Case("no user", post("half"), native=True)
    yield Case("the user twice", post("half", (user, b"7"), (user, b"7")))
    yield Case("two users", post("half", (user, b"7"), (user, b"8")))
    yield Case("no user and a token", call("half"), native=True)
    for value in (b"true", b"TRUE", b"true,true", b"", b"true, true", b"tru"):
        yield Case(f"x-canary {value!r}", post("half", (b"x-canary", value), (user, b"4")),
                   native=value not in (b"true,true", b"true, true"))  # fmt: skip
    canary = (b"x-canary", b"true")
    yield Case("x-canary twice", post("half", canary, canary))
    yield Case("x-canary true and false", post("half", canary, (b"x-canary", b"false")))
    for value in (b"image", b"IMAGE", b"image,image", b"imagex"):
        yield Case(f"x-model-type {value!r}", post("half", (b"x-model-type", value)),
                   native=b"," not in value)  # fmt: skip
    kind = (b"x-model-type", b"image")
    yield Case("x-model-type twice", post("half", kind, kind))
    for number in range(8):
        yield Case(
            f"the bucket of subject {number}", call("subjects", sub=f"user-{number}"), native=True
        )
    yield Case("a canary header for subjects", call("subjects", canary), native=True)
    yield Case("anonymous for subjects", post("subjects"))


def paths_cases() -> Iterator[Case]:
    base = b"/v2/models/public"
    for path in (
        base + b"/infer/", base + b"/infer//", base + b"//infer", base + b"/%69nfer",
        base + b"/infer%2f",
        base + b"/INFER", base + b"/./infer", base + b"/x/../infer", base + b"/infer/x", base,
        base + b"/infer;a=b", base + b"/infer%3fa", base + b"/infer%00", base + b"/infer#x",
        b"/v2/models/public%2finfer", b"/v2/models/%70ublic/infer", b"//v2/models/public/infer",
        b"/V2/models/public/infer", b"/v2/models/Public/infer", b"/v2/models/publi/infer",
        b"/v2/models/publicx/infer", b"/v2/models//infer", b"/v2/models/public\\infer",
        base + b"/ready",
        base + b"/generate", base + b"/versions/v2/infer/x", base + b"/versions/v2",
        base + b"/infer\xc3\xa9",
        b"/x/v2/models/public/infer", b"http://public.test/v2/models/public/infer", b"*",
        base + b"/inf%65r",
    ):  # fmt: skip
        yield Case(f"path {path!r}", post("public", path=path))
    for query in (b"?", b"?x", b"?a=%ff", b"?a=/../../x", b"?a?b", b"?versions/v2"):
        yield Case(f"query {query!r}", post("public", path=base + b"/infer" + query), native=True)
    yield Case("a query that is not ASCII", post("public", path=base + b"/infer?\xc3\xa9"))
    yield Case("a query with a fragment", post("public", path=base + b"/infer?x#y"))
    yield Case("a model whose name begins another", post("a"), native=True)
    yield Case("a model whose name begins with another", post("ab"))
    yield Case("the path of another model's paths", post("under"))
    yield Case("the path of another model's paths, staff", call("under", group="staff"))
    yield Case("below another model's paths", call("under", path=b"/v2/models/under/infer/x"))
    yield Case("a version beside another model's paths",
               post("under", path=b"/v2/models/under/versions/v1/infer"), native=True)  # fmt: skip
    yield Case("a model's own path", call("over", path=b"/own", group="staff"))
    yield Case("a model's own path, another caller", call("over", path=b"/own"))
    yield Case("below a model's own path", call("over", path=b"/own/infer", group="staff"))


def bodies_cases() -> Iterator[Case]:
    for size, native in (
        (0, False),
        (1, True),
        (99, True),
        (100, True),
        (101, False),
        (5000, False),
    ):
        request = call("m").with_body(b"x" * size)
        yield Case(f"{size} bytes", request, native=native)
        yield Case(f"{size} bytes over HTTP/2", replace(request, http2=True), native=native)
        chunked = request.with_header(b"content-length", None)
        yield Case(f"{size} bytes in chunks", chunked)
        yield Case(f"{size} bytes of no declared length over HTTP/2", replace(chunked, http2=True))
    none = replace(call("m").with_header(b"content-length", None), body=None)
    yield Case("no body", none)
    yield Case("no body over HTTP/2", replace(none, http2=True))
    for length in (b"1", b"3", b"-1", b"+2", b"2.0", b"0x2", b"2,2", b" 2",
    b"99999999999999999999", b"",
                   b"02", b"0000000000000000000002"):  # fmt: skip
        h2 = replace(call("m").with_header(b"content-length", length), http2=True)
        yield Case(f"content-length {length!r} for 2 bytes over HTTP/2", h2)
    for length in (b"-1", b"+2", b"2.0", b"0x2", b"2,2", b"99999999999999999999", b""):
        h1 = call("m").with_header(b"content-length", length)
        yield Case(f"content-length {length!r} for 2 bytes", h1)
    yield Case("two lengths", call("m").adding((b"content-length", b"2")))
    both = call("m").adding((b"transfer-encoding", b"chunked"))
    yield Case("content-length and chunks", replace(both, body=b"0\r\n\r\n"))
    for kind, native in (
        (b"application/json; charset=utf-8", False), (b"Application/JSON", False),
        (b"text/plain", False),
        (b"application/json,text/plain", False), (b"", False), (b"application/jsonx", False),
        (b"application/octet-stream", True), (b"application/grpc", False),
        (b"application/grpc+json", False),
        (b"application/grpc-web", False), (b"application/grpc; x=y", False), (None, False),
    ):  # fmt: skip
        typed = call("m").with_header(b"content-type", kind)
        yield Case(f"content-type {kind!r}", typed, native=native)
        yield Case(f"content-type {kind!r} over HTTP/2", replace(typed, http2=True), native=native)
    two = call("m", JSON)
    yield Case("content-type twice", two)
    any_type = post("any").with_header(b"content-type", b"application/grpc")
    yield Case("gRPC to a model of every type", any_type)
    for method in (
        b"GET",
        b"PUT",
        b"HEAD",
        b"DELETE",
        b"OPTIONS",
        b"TRACE",
        b"post",
        b"FOO",
        b"CONNECT",
    ):
        yield Case(f"method {method.decode()}", replace(call("m"), method=method))
    read = replace(post("any").with_header(b"content-length", None), method=b"GET", body=None)
    yield Case("GET of a model with GET", read)
    yield Case("PUT of a model with PUT", replace(post("any"), method=b"PUT"), native=True)


def upgrades_cases() -> Iterator[Case]:
    upgrade = ((b"upgrade", b"websocket"), (b"connection", b"upgrade"))
    for model in ("m", "socket", "public"):
        yield Case(f"upgrade on POST, {model}", call(model, *upgrade))
        yield Case(f"upgrade without connection, {model}", call(model, upgrade[0]))
    yield Case("upgrade to h2c", call("m", (b"upgrade", b"h2c"), (b"connection", b"upgrade")))
    yield Case("connection: upgrade alone", call("m", (b"connection", b"upgrade")))
    for protocol in (b"websocket", b"connect-udp"):
        connect = replace(
            call("socket"), method=b"CONNECT", http2=True, body=None, headers=(
                (b":protocol", protocol), *call("socket").with_header(b"content-length",
                None).headers
            ),
        )  # fmt: skip
        yield Case(f"extended CONNECT to {protocol.decode()}", connect)
    yield Case("te: trailers", call("m", (b"te", b"trailers")), native=True)
    yield Case("expect: 100-continue", call("m", (b"expect", b"100-continue")))


def responses_cases() -> Iterator[Case]:
    trailers = ((b"x-sluice-subject", b"root"), (b"x-model-service", b"m/v2"), (b"x-own", b"1"))
    h2 = replace(call("m"), http2=True, trailers=trailers)
    yield Case("trailers over HTTP/2", h2, native=True)
    chunked = replace(call("m").with_header(b"content-length", None), trailers=trailers)
    yield Case("trailers after chunks", chunked)
    for what in (b"hints", b"trailers"):
        yield Case(
            f"{what.decode()} from the model server", call("m", (b"x-echo", what)), native=True
        )
        yield Case(f"{what.decode()} from the model server over HTTP/2",
                   replace(call("m", (b"x-echo", what)), http2=True), native=True)  # fmt: skip
