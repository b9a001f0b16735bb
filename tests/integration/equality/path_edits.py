"""Edits of the path and the query."""

import random
from dataclasses import replace

from tests.integration.equality.population import Population
from tests.integration.equality.request import Request


def path_text(rng: random.Random, request: Request, population: Population) -> Request:
    path = request.path
    head, slash, last = path.partition(b"?")[0].rpartition(b"/")
    other = rng.choice(list(population.world.models)).encode()
    changes = (
        path + b"/", path + b"x", path[:-1] or b"/", head or b"/", path + b"/infer",
        head + b"//" + last,
        head + slash + b"%" + (b"%02x" % last[0] if last else b"2f") + last[1:], path.upper(),
        head + b"/./" + last, head + b"/x/../" + last, path + b";a=b", path + b"%2f", path + b"%00",
        head + slash + b"ready", head + slash + b"generate", head + slash + b"infer", path + b"?",
        path + b"?access_token=x", path + b"?%ff", path + b"?\xc3\xa9", path + b"?\x7f",
        path + b"?a=\xff", path + b"#x",
        b"/v2/models/" + other + slash + last,
        b"/v2/models/" + other, b"/v2/models/" + other + b"/infer", b"//" + path[1:],
        path + b"\xc3\xa9",
        path.replace(b"/v2/", b"/V2/"), path.replace(b"/infer", b"/infer/stats"), b"*",
        path[1:] or b"x",
        b"/x" + path, path + b"?a=" + b"b" * 3000, path + b"/%2e%2e/infer", path + b"\\x",
    )  # fmt: skip
    changed = rng.choice(changes)
    # Envoy refuses other bytes than ASCII in HTTP/1.1.
    return replace(request, path=changed, http2=request.http2 or not changed.isascii())


def path_version(rng: random.Random, request: Request, population: Population) -> Request | None:
    """A version in the path, or another one, or no longer one."""
    path = request.path
    if not path.startswith(b"/v2/models/"):
        return None
    _, _, model, *rest = path[1:].split(b"/")
    rest = rest[2:] if rest[:1] == [b"versions"] else rest
    versions = [v for m in population.world.models.values() for v in m["versions"]]
    version = rng.choice((*versions, "", "v9", "V1", "infer", "%761")).encode()
    base = b"/v2/models/" + model
    tail = b"/".join(rest)
    changes = (
        base + b"/versions/" + version + b"/" + tail, base + b"/" + tail,
        base + b"/versions/" + tail,
        base + b"/versions/" + version, base + b"/versions//" + tail, base + b"/version/v1/" + tail,
        base + b"/versions/" + version + b"/versions/" + version + b"/" + tail,
    )  # fmt: skip
    return replace(request, path=rng.choice(changes))
