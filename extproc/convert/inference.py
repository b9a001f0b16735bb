"""Inference requests and responses, independent of their encoding."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from extproc.convert.tensor import Parameters, Tensor


@dataclass(slots=True)
class RequestedOutput:
    """An output that the client requests by name."""

    name: str
    parameters: Parameters = field(default_factory=dict)


Encoding = Literal["json", "binary", "protobuf"]


@dataclass(frozen=True, slots=True)
class ResponseOptions:
    """How to encode the response, as the request determines it."""

    encoding: Encoding = "json"
    form: Literal["v2", "v1"] = "v2"
    """`v1`: the request has `instances`, so the response has `predictions`."""
    binary: frozenset[str] = frozenset()
    """Outputs that are sent as binary data although the encoding is JSON."""
    text: frozenset[str] = frozenset()
    """Outputs that are sent in JSON although the encoding is binary."""
    request_id: str = ""
    """For the problem document, if the model server responds with an error."""


@dataclass(slots=True)
class InferenceRequest:
    """A request. Every reader returns this type, and every writer takes it."""

    inputs: list[Tensor]
    outputs: list[RequestedOutput] = field(default_factory=list)
    parameters: Parameters = field(default_factory=dict)
    id: str = ""
    response_options: ResponseOptions = ResponseOptions()
    verbatim: bool = False
    """The body is a V2 REST request, so a REST server can get it unchanged."""


Query = Literal["ready", "metadata"]
"""What a request without a body asks about a model."""

Headers = Mapping[str, str]
"""Header names in lower case."""

Reading = Generator[int, None, InferenceRequest]
"""Reads a request in steps. Yields the bytes that decoding its images takes at most, with their
tensors, before it decodes them. Raises ConversionError."""

RequestReader = Callable[[bytes, Headers], Reading]
"""Reads the body and the headers of a request."""


@dataclass(slots=True)
class InferenceResponse:
    """A response of a model server."""

    model: str
    version: str
    outputs: list[Tensor]
    parameters: Parameters = field(default_factory=dict)
    id: str = ""
