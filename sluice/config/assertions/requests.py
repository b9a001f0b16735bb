"""Finds requests that a version serves and that meet the conditions of an assertion.

What a request must have depends on its path, its method and the protocol of the version, as in the
stages validate and convert. Of the bodies and media types, one that the version accepts is enough.
The sizes of headers and bodies are not considered.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sluice.config.assertion import AssertedRequests
from sluice.config.models import Model
from sluice.config.values import READ_METHODS
from sluice.contract.headers import MODEL_NAME, MODEL_VERSION
from sluice.contract.paths import (
    GRPC_OPERATIONS,
    OIP_GRPC_PREFIX,
    OIP_OPERATIONS,
    OIP_PREFIX,
    READ_OPERATIONS,
)

_METHODS: Final = ("POST", "PUT", "PATCH", "DELETE", "GET", "HEAD", "OPTIONS")
_METHODS_WITH_BODY: Final = ("POST", "PUT", "PATCH")
_BELOW: Final = "/any"
"""A segment that no rule names, below a path."""

_JSON: Final = "application/json"
_PROTOBUF: Final = "application/x-protobuf"
"""Accepted by every model with conversion (`sluice.media_types`)."""

_GRPC: Final = "application/grpc"


@dataclass(frozen=True, slots=True)
class AssertedRequest:
    """A request without credentials. A request with a content type has a body."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Path:
    """A path of a model. `operation` is None for paths outside of `/v2/models/NAME`."""

    path: str
    operation: str | None = None
    version: str | None = None


class Prefixes:
    """The models of a config, by their path prefixes."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._owners = {
            prefix: (name, index == 0)
            for name, model in models.items()
            for index, prefix in enumerate(model.prefixes(name))
        }

    def owner(self, path: str) -> tuple[str, bool, str] | None:
        """The model with the longest prefix of a path, and the rest of the path.

        The second value is whether the prefix is `/v2/models/NAME`.
        """
        end = len(path)
        while end > 0:
            found = self._owners.get(path[:end])
            if found is not None:
                return (*found, path[end + 1 :])
            end = path.rfind("/", 0, end)
        return None


class Requests:
    """The requests of one model that meet the conditions."""

    def __init__(
        self, name: str, model: Model, prefixes: Prefixes, asserted: AssertedRequests
    ) -> None:
        self._name, self._model, self._asserted = name, model, asserted
        self._prefixes = prefixes
        self._headers = {match.name: match.value for match in asserted.headers}
        self._speaks_grpc = all(each.protocol == "grpc" for each in model.versions.values())
        self._paths = [path for path in self._all_paths() if self._is_meant(path)]

    def naming(self, version: str) -> AssertedRequest | None:
        """A request that names this version, in a header or in its path."""
        named = self._headers.get(MODEL_VERSION)
        if self._asserted.names_version is False or named not in (None, version):
            return None
        header = {MODEL_VERSION: version}
        return self._first(version, None, header) or self._first(version, version, {})

    def unnamed(self, version: str, headers: Mapping[str, str]) -> AssertedRequest | None:
        """A request with these headers that names no version, and that this version serves."""
        if self._asserted.names_version or MODEL_VERSION in {**self._headers, **headers}:
            return None
        return self._first(version, None, headers)

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that each request has."""
        return self._headers

    def _first(
        self, version: str, named: str | None, headers: Mapping[str, str]
    ) -> AssertedRequest | None:
        methods = self._asserted.methods or _METHODS
        for path in self._paths:
            if path.version != named:
                continue
            for method in methods:
                own = self._served(version, path, method)
                if own is not None:
                    merged = {**own, **self._headers, **headers}
                    return AssertedRequest(method, path.path, merged)
        return None

    def _all_paths(self) -> Iterator[_Path]:
        """Every kind of path that the model has. Inference comes first."""
        own = OIP_PREFIX + self._name
        operations = sorted(self._operations(), key=lambda each: (each != "infer", each == ""))
        for begin, version in [(own, None), *((f"{own}/versions/{v}", v) for v in self._versions)]:
            for operation in operations:
                path = f"{begin}/{operation}" if operation else begin
                yield _Path(path, operation, version)
        for prefix in self._model.paths:
            yield _Path(prefix)
            yield _Path(prefix + _BELOW)
        for given in self._asserted.paths:
            for path in (given, given + _BELOW):
                yield from self._read(path)
        yield _Path(f"{OIP_GRPC_PREFIX}ModelInfer")

    @property
    def _versions(self) -> Mapping[str, object]:
        return self._model.versions

    def _operations(self) -> set[str]:
        if self._speaks_grpc:
            return set(GRPC_OPERATIONS)
        return {*OIP_OPERATIONS, *(_BELOW[1:] if o == "*" else o for o in self._model.extra_paths)}

    def _read(self, path: str) -> Iterator[_Path]:
        """A path of the assertion, if the model has it."""
        owner = self._prefixes.owner(path)
        if owner is None or owner[0] != self._name or path.startswith(OIP_GRPC_PREFIX):
            return
        _, is_own, rest = owner
        if not is_own:
            yield _Path(path)
            return
        version = None
        if rest.startswith("versions/"):
            version, _, rest = rest.removeprefix("versions/").partition("/")
        every = "*" in self._model.extra_paths and not self._speaks_grpc
        if every or rest in self._operations():
            yield _Path(path, rest, version)

    def _is_meant(self, path: _Path) -> bool:
        """Whether the path meets the conditions, and is that of this model."""
        asserted = self._asserted.paths
        text = path.path
        if asserted and not any(text == a or text.startswith(f"{a}/") for a in asserted):
            return False
        if text.startswith(OIP_GRPC_PREFIX):
            return True
        owner = self._prefixes.owner(text)
        return owner is not None and (owner[0], owner[1]) == (
            self._name,
            path.operation is not None,
        )

    def _served(self, version: str, path: _Path, method: str) -> dict[str, str] | None:
        """The headers with which the version serves this path and method; None if it does not."""
        model, operation = self._model, path.operation
        names_model = path.path.startswith(OIP_GRPC_PREFIX)
        is_grpc = model.versions[version].protocol == "grpc"
        if operation in READ_OPERATIONS:
            return {} if method in READ_METHODS else None
        if is_grpc and operation not in (None, *GRPC_OPERATIONS):
            return None
        if method not in model.methods or (self._speaks_grpc and method != "POST"):
            if method == "GET" and model.websocket and not is_grpc and not names_model:
                return {"upgrade": "websocket", "connection": "upgrade"}
            return None
        if is_grpc and method != "POST":
            return None
        converts = is_grpc or bool(model.inputs or model.outputs)
        needs_body = names_model or (converts and method == "POST" and operation in (None, "infer"))
        content_type = self._content_type(converts=converts, is_grpc=is_grpc)
        if content_type is None and needs_body:
            return None
        headers = {MODEL_NAME: self._name} if names_model else {}
        if content_type is not None and (needs_body or method in _METHODS_WITH_BODY):
            headers["content-type"] = content_type
        return headers

    def _content_type(self, *, converts: bool, is_grpc: bool) -> str | None:
        """The media type of a body that the version accepts."""
        accepted = self._model.content_types
        if _JSON in accepted or "*/*" in accepted or "application/*" in accepted:
            return _JSON
        if self._model.converts and (converts or is_grpc):
            return _PROTOBUF
        concrete = (kind.replace("*", "any") for kind in accepted if kind != _GRPC)
        return next(concrete, _GRPC if accepted and not converts else None)
