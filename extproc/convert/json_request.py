"""Reads requests in JSON: V2, and shorter forms that are easy to write by hand.

| form | meaning |
|---|---|
| `{"inputs": [{"name", "shape", "datatype", "data"}, ...]}` | V2 REST |
| `{"instances": [row, ...]}` | V1 (TensorFlow Serving); a row is a value or an object of inputs |
| `{"inputs": {"name": value, ...}}` | V1 with columns |
| `{"name": value, ...}` | the model's inputs by name |
| `{"text": value}` | the model's only BYTES input, which may have any name |

All forms except V2 need a model that declares its inputs. In the value of an image input,
`{"b64": "..."}` is an encoded image.
"""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from extproc.convert import v2_json
from extproc.convert.elements import decode_base64, flatten, pack
from extproc.convert.errors import ConversionError
from extproc.convert.inference import InferenceRequest, Reading, ResponseOptions
from extproc.convert.json_document import (
    as_array,
    as_object,
    as_string,
    member_field,
    refuse_unknown_members,
)
from extproc.convert.limits import ConversionLimits
from extproc.convert.signature import Signature, check_bytes_count, nested_data_shape
from extproc.convert.tensor import Tensor
from sluice.config.tensors import TensorInput
from sluice.contract.reasons import Reason

if TYPE_CHECKING:
    from extproc.convert.image_tensor import ImageReader, PreparedImages

_ROW_MEMBERS = frozenset(("instances", "signature_name"))
_COLUMN_MEMBERS = frozenset(("inputs", "signature_name"))


@dataclass(frozen=True, slots=True)
class _Column:
    """The JSON value of one input."""

    name: str
    value: object
    field: str


class JsonRequestReader:
    """Reads JSON requests for one model version."""

    def __init__(
        self, signature: Signature, limits: ConversionLimits, images: "Mapping[str, ImageReader]"
    ) -> None:
        """`images` are the readers of the image inputs by name."""
        self._signature = signature
        self._limits = limits
        self._images = images

    def read(self, document: Mapping[str, object]) -> Reading:
        """Read a request in any form. Raises ConversionError (400, 413, 415, 422)."""
        if isinstance(document.get("inputs"), list):
            return v2_json.read_request(document, self._limits)
        if not self._signature.inputs:
            raise ConversionError(
                Reason.NO_DECLARED_INPUTS,
                "inputs",
                "must be an array of V2 tensors: the model declares no inputs",
            )
        if "instances" in document:
            refuse_unknown_members(document, _ROW_MEMBERS, "")
            columns = _columns_of_rows(document["instances"], self._signature)
            tensors = yield from self._tensors(columns)
            return InferenceRequest(tensors, response_options=ResponseOptions(form="v1"))
        if isinstance(document.get("inputs"), dict) and self._signature.input("inputs") is None:
            refuse_unknown_members(document, _COLUMN_MEMBERS, "")
            named = as_object(document["inputs"], "inputs")
            columns = [_Column(n, v, f"inputs.{member_field(n)}") for n, v in named.items()]
        else:
            columns = [_Column(n, v, member_field(n)) for n, v in document.items()]
        return InferenceRequest((yield from self._tensors(columns)))

    def _tensors(self, columns: Iterable[_Column]) -> Generator[int, None, list[Tensor]]:
        read = [self._tensor(column) for column in columns]
        yield sum(images.memory for images in read if not isinstance(images, Tensor))
        return [each if isinstance(each, Tensor) else each.tensor() for each in read]

    def _tensor(self, column: _Column) -> "Tensor | PreparedImages":
        declared = _declared(column.name, column.field, self._signature)
        if declared.image is not None and (encoded := _encoded_images(column)):
            images, fields = zip(*encoded, strict=True)
            return self._images[declared.name].prepare(images, fields)
        flat, nesting = flatten(column.value, column.field, self._limits)
        shape = nested_data_shape(declared, nesting, len(flat), column.field)
        if declared.datatype == "BYTES":
            check_bytes_count(len(flat), column.field, self._limits)
        raw = pack(flat, declared.datatype, column.field)
        return Tensor(declared.name, declared.datatype, shape, raw, field=column.field)


def _columns_of_rows(instances: object, signature: Signature) -> list[_Column]:
    rows = as_array(instances, "instances")
    if not rows:
        raise ConversionError(Reason.NO_INPUTS, "instances", "must have at least one row")
    if not isinstance(rows[0], dict) or rows[0].keys() == {"b64"}:
        return [_Column(signature.only_input("instances").name, rows, "instances")]
    fields = {name: f"instances[].{member_field(name)}" for name in rows[0]}
    for name, field in fields.items():
        _declared(name, field, signature)
    objects = [as_object(row, f"instances[{i}]") for i, row in enumerate(rows)]
    names = fields.keys()
    for i, members in enumerate(objects):
        if members.keys() != names:
            raise ConversionError(
                Reason.UNEVEN_ROWS, f"instances[{i}]", "must have the members of the first row"
            )
    return [_Column(name, [o[name] for o in objects], field) for name, field in fields.items()]


def _declared(name: str, field: str, signature: Signature) -> TensorInput:
    """The declared input for a member. Raises ConversionError (422)."""
    declared = signature.input(_input_name(name, signature))
    if declared is None:
        raise ConversionError(
            Reason.UNKNOWN_INPUT, field, f"is not an input of the model: {signature.input_names}"
        )
    return declared


def _input_name(name: str, signature: Signature) -> str:
    """Name of the input for a member. `text` also names the only BYTES input."""
    if name == "text" and signature.input("text") is None:
        texts = [declared.name for declared in signature.inputs if declared.datatype == "BYTES"]
        if len(texts) == 1:
            return texts[0]
    return name


def _encoded_images(column: _Column) -> list[tuple[bytes, str]]:
    """Encoded images with their fields; empty if the value does not consist of base64 images."""
    value = column.value
    rows = value if isinstance(value, list) else [value]
    if not rows or not all(isinstance(row, dict) and row.keys() == {"b64"} for row in rows):
        return []
    images = []
    for i, row in enumerate(rows):
        field = f"{column.field}[{i}].b64" if isinstance(value, list) else f"{column.field}.b64"
        images.append((decode_base64(as_string(row["b64"], field), field), field))
    return images
