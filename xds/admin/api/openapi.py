"""The OpenAPI 3.1 document of the admin API, made from the operations."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from sluice.contract.problem import MEDIA_TYPE
from xds.admin.api.operations import JSON, MERGE_PATCH, NoQuery, Operation
from xds.admin.api.problems import REASONS, ProblemDocument, Reason

VERSION: Final = "1"
"""The version of the API, as in its paths. Members and operations are only added."""

_REF: Final = "#/components/schemas/{model}"
_ALWAYS: Final = (Reason.MALFORMED_REQUEST, Reason.INTERNAL_ERROR)
_PATH_PARAMETERS: Final = {
    "model": "Name of a model.",
    "version": "Name of a version of the model.",
    "address": "Address of an endpoint of the version, such as `127.0.0.1:9001`.",
    "revision": "Number of a revision.",
}

_Schema = dict[str, object]


def openapi(operations: Sequence[Operation]) -> _Schema:
    """The OpenAPI document."""
    models = [*_models(operations)]
    found, definitions = models_json_schema(models, ref_template=_REF)
    refs: _Refs = {key: dict(found[key]) for key in models}
    paths: dict[str, _Schema] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sluice control plane",
            "version": VERSION,
            "summary": "State and config of a gateway.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `control_plane.access`. Without configured access, "
                    "a server on loopback needs none.",
                }
            },
        },
    }


_Key = tuple[type[BaseModel], JsonSchemaMode]
_Refs = dict[_Key, _Schema]


def _models(operations: Iterable[Operation]) -> Iterator[_Key]:
    """Every schema once: those that are read, and those that are written."""
    found: dict[_Key, None] = {(ProblemDocument, "serialization"): None}
    for operation in operations:
        if operation.response is not None:
            found[operation.response, "serialization"] = None
        if operation.body is not None and operation.body.schema is not None:
            found[operation.body.schema, "validation"] = None
    return iter(found)


def _operation(operation: Operation, refs: _Refs) -> _Schema:
    name = operation.method.lower() + "".join(
        part.strip("{}").title().replace(".", "")
        for part in operation.path.removeprefix("/v1/").split("/")
    )
    described: _Schema = {"operationId": name, "summary": operation.summary}
    if operation.description:
        described["description"] = operation.description
    described["parameters"] = [*parameters(operation)]
    if operation.body is not None:
        described["requestBody"] = _body(operation, refs)
    described["responses"] = {
        "200": _success(operation, refs),
        **({"304": {"description": "Unchanged."}} if "If-None-Match" in operation.headers else {}),
        **_errors(operation, refs),
    }
    described["security"] = [] if operation.role is None else [{"token": []}]
    if operation.role is not None:
        described["x-role"] = operation.role.value
    return described


def parameters(operation: Operation) -> Iterator[_Schema]:
    for part in operation.path.split("/"):
        if part.startswith("{"):
            name = part.strip("{}")
            yield {
                "name": name, "in": "path", "required": True,
                "description": _PATH_PARAMETERS[name], "schema": {"type": "string"},
            }  # fmt: skip
    if operation.query is not NoQuery:
        schema = operation.query.model_json_schema()
        for name, each in schema["properties"].items():
            description = each.pop("description", "")
            each.pop("title", None)
            yield {
                "name": name, "in": "query", "required": name in schema.get("required", ()),
                "description": description, "schema": each,
            }  # fmt: skip
    for header, description in operation.headers.items():
        yield {"name": header, "in": "header", "required": False, "description": description,
               "schema": {"type": "string"}}  # fmt: skip


def _body(operation: Operation, refs: _Refs) -> _Schema:
    body = operation.body
    assert body is not None
    schema = {} if body.schema is None else refs[body.schema, "validation"]
    content = {
        media_type: {"schema": {"type": "object"} if media_type == MERGE_PATCH else schema}
        for media_type in body.media_types
    }
    return {"required": True, "description": body.description, "content": content}


def _success(operation: Operation, refs: _Refs) -> _Schema:
    schema = {} if operation.response is None else refs[operation.response, "serialization"]
    content = {
        media_type: {"schema": schema if media_type == JSON else {"type": "string"}}
        for media_type in operation.media_types
    }
    return {"description": "Success.", "content": content}


def _errors(operation: Operation, refs: _Refs) -> Mapping[str, _Schema]:
    """One response for each status. Its description names the reasons."""
    by_status: dict[int, list[str]] = {}
    for reason in (*_ALWAYS, *operation.all_errors):
        by_status.setdefault(REASONS[reason][0], []).append(f"`{reason}`")
    if operation.role is not None:
        by_status.setdefault(401, []).append("`unauthenticated`")
        by_status[403] = [f"`{Reason.ROLE_REQUIRED}`", "`foreign_page`"]
    schema = refs[ProblemDocument, "serialization"]
    found: dict[str, _Schema] = {
        str(status): {
            "description": ", ".join(reasons),
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status, reasons in sorted(by_status.items())
    }
    if operation.role is not None:
        found["421"] = {
            "description": "`unknown_host`",
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
    return found
