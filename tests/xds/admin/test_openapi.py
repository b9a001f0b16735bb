"""The OpenAPI document is well formed, and says what a running server does."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sluice.explain.served import ServedExplainer
from tests.json_schema import errors, resolve
from tests.xds.admin.plane import Plane, config_file, plane
from xds.admin.api.problems import REASONS, Reason
from xds.admin.reference import reference
from xds.candidate.start import StartOptions
from xds.sources.store.sqlite import SqliteStore

TEXT = """\
models:
  digits:
    stable: v1
    versions:
      v1: {endpoints: [{address: "127.0.0.1:9001"}]}
      v2: {endpoints: [{address: "127.0.0.1:9003"}]}
    canaries: [{version: v2, percent: 5}]
"""
NAMES = {"model": "digits", "version": "v2", "address": "127.0.0.1:9003", "revision": "1"}
MODEL = {"versions": {"v1": {"endpoints": [{"address": "127.0.0.1:9001"}]}}}
BODIES: dict[str, object] = {
    "PUT /v1/config": {"models": {"digits": MODEL}},
    "PATCH /v1/config": {"placement": "callout"},
    "POST /v1/config/validate": {"models": {"digits": MODEL}},
    "POST /v1/config/diff": {"models": {"digits": MODEL}},
    "PUT /v1/models/{model}": MODEL,
    "PATCH /v1/models/{model}": {"timeout": "5s"},
    "PUT /v1/limits": {"listener": None},
    "PATCH /v1/limits": {"headers": False},
    "PUT /v1/models/{model}/canaries/{version}": {"percent": 10},
    "PUT /v1/models/{model}/versions/{version}/endpoints/{address}/weight": {"weight": 2},
    "POST /v1/rollback": {"revision": 1},
    "POST /v1/explain": {"method": "POST", "path": "/v2/models/digits/infer", "body": "{}"},
}
"""A valid body for each operation that has one."""

FAILING = {
    **{
        f"POST /v1/models/{{model}}/canaries/{{version}}/{each}": 409
        for each in ("pause", "resume")
    },
    "DELETE /v1/models/{model}": 422,
}
"""Operations that fail here: the only model must stay."""

STREAMS = {"GET /v1/events"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    file = config_file(tmp_path_factory.mktemp("plane"), TEXT)
    with plane(StartOptions(file, "memory"), SqliteStore(), ServedExplainer()) as running:
        yield running


@pytest.fixture(scope="module")
def document(api: Plane) -> dict[str, Any]:
    response = api.get("/v1/openapi.json")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def each_operation(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_the_document_is_well_formed(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert {"title", "version"} <= document["info"].keys()
    for reference_ in references(document):
        assert resolve(document, reference_)
    identifiers = []
    for method, path, operation in each_operation(document):
        assert path.startswith("/v1/")
        assert method in {"GET", "PUT", "PATCH", "POST", "DELETE"}
        identifiers.append(operation["operationId"])
        assert operation["summary"]
        declared = [(each["in"], each["name"]) for each in operation["parameters"]]
        assert len(set(declared)) == len(declared)
        in_path = {name for place, name in declared if place == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))
        for parameter in operation["parameters"]:
            assert parameter["description"]
            assert parameter["schema"]
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[2345][0-9]{2}", status)
            assert response["description"]
        assert ("requestBody" in operation) <= (method != "GET")
        for security in operation["security"]:
            assert security.keys() <= document["components"]["securitySchemes"].keys()
    assert len(set(identifiers)) == len(identifiers)


def test_the_document_has_every_operation_of_the_server(
    api: Plane, document: dict[str, Any]
) -> None:
    described = {(method, path) for method, path, _ in each_operation(document)}
    assert described == {(each.method, each.path) for each in api.operations}


def called(api: Plane, method: str, path: str, operation: dict[str, Any]) -> httpx.Response:
    url = re.sub(r"{(\w+)}", lambda match: NAMES[match[1]], path)
    if any(each["name"] == "dry_run" for each in operation["parameters"]):
        url += "?dry_run=true"
    if "requestBody" not in operation:
        return api.client.request(method, url)
    kinds = operation["requestBody"]["content"]
    kind = next(each for each in kinds if each.endswith("json"))
    return api.client.request(
        method, url, content=json.dumps(BODIES[f"{method} {path}"]), headers={"content-type": kind}
    )


def test_every_operation_responds_as_the_document_says(
    api: Plane, document: dict[str, Any]
) -> None:
    for method, path, operation in each_operation(document):
        name = f"{method} {path}"
        if name in STREAMS:
            continue
        response = called(api, method, path, operation)
        assert response.status_code == FAILING.get(name, 200), (name, response.text)
        described = operation["responses"][str(response.status_code)]
        media_type = response.headers["content-type"].partition(";")[0]
        schema = described["content"][media_type]["schema"]
        assert list(errors(response.json(), schema, document)) == [], name


def test_the_bodies_match_their_schemas(document: dict[str, Any]) -> None:
    for method, path, operation in each_operation(document):
        if "requestBody" in operation:
            for media_type, content in operation["requestBody"]["content"].items():
                if media_type.endswith("json"):
                    body = BODIES[f"{method} {path}"]
                    assert list(errors(body, content["schema"], document)) == [], path


def test_a_refusal_has_a_documented_status(api: Plane, document: dict[str, Any]) -> None:
    for method, path, operation in each_operation(document):
        url = re.sub(r"{(\w+)}", "nothing", path)
        for headers in ({}, {"if-match": "x"}, {"accept": "text/html"}, {"origin": "http://x"}):
            if f"{method} {path}" in STREAMS and not headers.get("origin"):
                continue
            response = api.client.request(method, f"{url}?dry_run=x", headers=headers)
            statuses = {*operation["responses"]}
            assert str(response.status_code) in statuses, (method, path, response.text)


def test_every_reason_is_documented_and_has_a_status() -> None:
    assert set(REASONS) == set(Reason)
    page = reference()
    for reason in Reason:
        assert f"| `{reason}` |" in page
