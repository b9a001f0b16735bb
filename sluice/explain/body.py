"""The last stage of an explanation: checks and converts the body as a worker would."""

import json
from collections.abc import Mapping

from extproc.convert import ConversionError, ConvertedMessage, Converter
from extproc.decision import Admission
from extproc.decision.oip_grpc import is_method_path
from extproc.decision.refusals import body_too_large
from extproc.framing import PREFIX_SIZE
from protos.inference_pb2 import ModelInferRequest
from sluice.explain.report import RefusedError, SentRequest, SentTensor, Stage
from sluice.explain.request import HttpRequest

STAGE = "body"


def convert(
    admission: Admission, headers: Mapping[str, bytes], request: HttpRequest
) -> tuple[Stage, SentRequest | None]:
    """Check and convert the body. The request to the model server is None if it is not known.

    Raises RefusedError.
    """
    converter = admission.converter
    if request.has_body and request.body is None:
        what = "the check of the size" if converter is None else f"the conversion {converter.name}"
        text = f"not known: {what} needs the body (-d, --data-binary)"
        return Stage(STAGE, "unknown", text), None
    body = request.body or b""
    if len(body) > admission.max_body:
        refusal = body_too_large(admission.max_body)
        raise RefusedError(STAGE, refusal.status, refusal.reason, refusal.detail)
    if converter is not None:
        return _converted(converter, body, headers)
    if body and is_method_path(headers[":path"]):
        text = "not known: the messages of gRPC calls are not checked by this command"
        return Stage(STAGE, "unknown", text), None
    content_type = headers.get("content-type")
    sent = SentRequest(
        request.method,
        headers[":path"].decode().partition("?")[0],
        None if content_type is None else content_type.decode("latin-1"),
        len(body),
        None,
    )
    return Stage(STAGE, "pass", "passes unchanged" if body else "there is no body"), sent


def _converted(
    converter: Converter, body: bytes, headers: Mapping[str, bytes]
) -> tuple[Stage, SentRequest]:
    text_headers = {name: value.decode("latin-1") for name, value in headers.items()}
    try:
        converted = converter.convert_request(body, text_headers)
    except ConversionError as error:
        detail = f"{error.field}: {error.detail}"
        raise RefusedError(STAGE, error.status, error.reason, detail) from None
    path = converted.headers.get(":path", text_headers[":path"]).partition("?")[0]
    if converter.protocol == "grpc":
        tensors = _grpc_tensors(converted.body)
        sent = SentRequest(
            "POST", path, "application/grpc", len(converted.body) + PREFIX_SIZE, tensors
        )
    else:
        sent = SentRequest(
            "POST", path, converted.content_type, len(converted.body), _rest_tensors(converted)
        )
    return Stage(STAGE, "pass", f"converted: {converter.name}"), sent


def _grpc_tensors(message: bytes) -> tuple[SentTensor, ...]:
    inputs = ModelInferRequest.FromString(message).inputs
    return tuple(SentTensor(each.name, each.datatype, tuple(each.shape)) for each in inputs)


def _rest_tensors(converted: ConvertedMessage) -> tuple[SentTensor, ...] | None:
    """The inputs of a JSON body; None for a body with binary data, which passes unchanged."""
    try:
        inputs = json.loads(converted.body)["inputs"]
        return tuple(SentTensor(i["name"], i["datatype"], tuple(i["shape"])) for i in inputs)
    except (ValueError, LookupError, TypeError):
        return None
