"""Declared inputs and outputs of a model, and checks of requests against the declaration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from extproc.convert.errors import ConversionError, quoted, shape_text
from extproc.convert.inference import InferenceRequest, RequestedOutput
from extproc.convert.limits import ConversionLimits
from extproc.convert.tensor import Tensor, raw_element_count
from sluice.config.tensors import TensorInput, TensorOutput
from sluice.contract.reasons import Reason
from sluice.tensors.datatypes import DATATYPES
from sluice.tensors.shapes import element_count


@dataclass(frozen=True, slots=True)
class Signature:
    """Name, version, declared inputs and declared outputs of a model.

    If `version` is empty, the model server chooses the version. If no inputs are declared, names,
    datatypes and shapes of a request's tensors are not compared with a declaration.
    """

    model: str
    version: str = ""
    inputs: tuple[TensorInput, ...] = ()
    outputs: tuple[TensorOutput, ...] = ()
    _by_name: Mapping[str, TensorInput] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A table has a declared input for each column, and a request a tensor for each of them.
        by_name = {declared.name: declared for declared in self.inputs}
        object.__setattr__(self, "_by_name", by_name)

    def input(self, name: str) -> TensorInput | None:
        """The declared input with this name; None if there is none."""
        return self._by_name.get(name)

    @property
    def image_inputs(self) -> tuple[TensorInput, ...]:
        """Inputs that accept encoded images."""
        return tuple(declared for declared in self.inputs if declared.image is not None)

    @property
    def input_names(self) -> str:
        """Names of the declared inputs as text, for error messages."""
        return ", ".join(declared.name for declared in self.inputs) or "none"

    @property
    def has_labels(self) -> bool:
        """Whether any output has labels."""
        return any(output.labels for output in self.outputs)

    def only_input(self, field: str) -> TensorInput:
        """The input of a tensor without a name: the only required input.

        Raises ConversionError (422) unless exactly one input is required.
        """
        required = [declared for declared in self.inputs if not declared.optional]
        if len(required) == 1:
            return required[0]
        raise ConversionError(
            Reason.INPUT_NOT_NAMED,
            field,
            f"must name an input of the model: {self.input_names}",
        )


def check_request(
    request: InferenceRequest, signature: Signature, limits: ConversionLimits
) -> None:
    """Raises ConversionError unless every tensor is valid and fits the declared inputs."""
    if not request.inputs:
        raise ConversionError(Reason.NO_INPUTS, "inputs", "must have at least one tensor")
    check_entries(request, limits)
    if sum(len(tensor.data) for tensor in request.inputs) > limits.max_tensor_bytes:
        raise ConversionError(
            Reason.TENSORS_TOO_LARGE,
            "inputs",
            f"must have at most {limits.max_tensor_bytes} bytes in total",
        )
    seen: set[str] = set()
    bytes_elements = 0
    for tensor in request.inputs:
        if tensor.name in seen:
            raise ConversionError(
                Reason.INPUT_TWICE, f"{tensor.field}.name", f"{quoted(tensor.name)} occurs twice"
            )
        seen.add(tensor.name)
        check_datatype(tensor.datatype, tensor.field)
        _check_shape(tensor)
        if signature.inputs:
            _check_declared(tensor, signature)
        bytes_elements = _check_data(tensor, bytes_elements, limits)
    missing = [i.name for i in signature.inputs if not i.optional and i.name not in seen]
    if missing:
        raise ConversionError(Reason.MISSING_INPUT, "inputs", f"must include {', '.join(missing)}")


def check_entries(request: InferenceRequest, limits: ConversionLimits) -> None:
    """Raises ConversionError (413) for too many inputs, outputs and parameters."""
    entries: list[Tensor | RequestedOutput] = [*request.inputs, *request.outputs]
    parameters = sum(len(entry.parameters) for entry in entries) + len(request.parameters)
    check_entry_count(len(entries) + parameters, "body", limits)


def check_entry_count(count: int, field: str, limits: ConversionLimits) -> None:
    """Raises ConversionError (413) for too many entries."""
    if count > limits.max_entries:
        raise ConversionError(
            Reason.TOO_MANY_ENTRIES,
            field,
            f"must have at most {limits.max_entries} inputs, outputs and parameters",
        )


def check_bytes_count(count: int, field: str, limits: ConversionLimits) -> None:
    """Raises ConversionError (413) for too many BYTES elements."""
    if count > limits.max_bytes_elements:
        raise ConversionError(
            Reason.TOO_MANY_ELEMENTS,
            field,
            f"a request must have at most {limits.max_bytes_elements} BYTES elements",
        )


def check_datatype(datatype: str, field: str) -> None:
    """Raises ConversionError (422) unless V2 has this datatype."""
    if datatype not in DATATYPES:
        raise ConversionError(
            Reason.UNKNOWN_DATATYPE, f"{field}.datatype", f"{quoted(datatype)} is not a V2 datatype"
        )


def flat_data_shape(declared: TensorInput, count: int, field: str) -> tuple[int, ...]:
    """The shape of flat data with `count` elements: the declared shape without -1.

    The size of a dimension that is declared as -1 is computed from `count`. Raises ConversionError
    (422) if several dimensions are -1, or if the elements do not fill the shape.
    """
    wanted = _declared_shape(declared)
    fixed = element_count([size for size in wanted if size != -1])
    variable_dimensions = wanted.count(-1)
    if variable_dimensions == 0 and count == fixed:
        return wanted
    if variable_dimensions > 1:
        raise ConversionError(
            Reason.SHAPE_OPEN,
            field,
            f"needs a shape: several dimensions of {declared.name} {list(wanted)} are -1",
        )
    if variable_dimensions == 0 or fixed == 0 or count % fixed:
        raise ConversionError(
            Reason.WRONG_COUNT,
            field,
            f"{count} elements do not fill {declared.name} {list(wanted)}",
        )
    return tuple(count // fixed if size == -1 else size for size in wanted)


def nested_data_shape(
    declared: TensorInput, nesting: tuple[int, ...], count: int, field: str
) -> tuple[int, ...]:
    """The shape of JSON data that come without a shape.

    `nesting` is the shape of the nested arrays, and `count` the number of elements. Flat data get
    the declared shape. Data without the batch dimension become a batch of one. Raises
    ConversionError (422).
    """
    if _matches(nesting, declared.shape):
        return nesting
    if len(nesting) > 0 and _matches((1, *nesting), declared.shape):
        return 1, *nesting
    if len(nesting) <= 1:
        return flat_data_shape(declared, count, field)
    raise ConversionError(
        Reason.WRONG_SHAPE,
        field,
        f"the shape must be {list(declared.shape)}, not {shape_text(nesting)}",
    )


def _matches(shape: Sequence[int], declared: Sequence[int]) -> bool:
    """Whether a shape matches the declared shape. A declared size of -1 matches any size."""
    return len(shape) == len(declared) and all(
        wanted in (-1, size) for size, wanted in zip(shape, declared, strict=True)
    )


def _declared_shape(declared: TensorInput) -> tuple[int, ...]:
    """The declared shape. For an image input, the size of the image replaces -1."""
    if declared.image is None:
        return declared.shape
    return (*declared.shape[:-3], *declared.image.shape)


def _check_shape(tensor: Tensor) -> None:
    if tensor.shape and min(tensor.shape) < 0:
        raise ConversionError(
            Reason.WRONG_SHAPE,
            f"{tensor.field}.shape",
            f"{shape_text(tensor.shape)} has a negative dimension",
        )


def _check_declared(tensor: Tensor, signature: Signature) -> None:
    declared = signature.input(tensor.name)
    if declared is None:
        raise ConversionError(
            Reason.UNKNOWN_INPUT,
            f"{tensor.field}.name",
            f"{quoted(tensor.name)} is not an input of the model: {signature.input_names}",
        )
    if tensor.datatype != declared.datatype:
        raise ConversionError(
            Reason.WRONG_DATATYPE,
            f"{tensor.field}.datatype",
            f"{tensor.name} must be {declared.datatype}, not {tensor.datatype}",
        )
    if not _matches(tensor.shape, declared.shape):
        raise ConversionError(
            Reason.WRONG_SHAPE,
            f"{tensor.field}.shape",
            f"{tensor.name} must be {list(declared.shape)}, not {shape_text(tensor.shape)}",
        )


def _check_data(tensor: Tensor, bytes_elements: int, limits: ConversionLimits) -> int:
    """Raises ConversionError unless the data fit the shape.

    `bytes_elements` is the number of BYTES elements in the request's tensors so far. Returns the
    number with this tensor.
    """
    field = f"{tensor.field}.data"
    wanted = element_count(tensor.shape)
    stop = limits.max_bytes_elements - bytes_elements + 1
    found = raw_element_count(tensor.data, tensor.datatype, field, stop)
    if tensor.datatype == "BYTES":
        bytes_elements += found
        check_bytes_count(bytes_elements, field, limits)
    if found != wanted:
        raise ConversionError(
            Reason.WRONG_COUNT,
            field,
            f"{found} elements do not fill the shape {shape_text(tensor.shape)}",
        )
    if tensor.datatype == "BOOL" and bytes(tensor.data).translate(None, b"\x00\x01"):
        raise ConversionError(Reason.WRONG_ELEMENT, field, "a BOOL byte must be 0 or 1")
    return bytes_elements
