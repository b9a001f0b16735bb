"""What a model takes, and whether tensors fit it."""

from collections.abc import Sequence
from dataclasses import dataclass

from extproc.convert.errors import ConversionError
from extproc.convert.limits import ConversionLimits
from extproc.convert.tensor import (
    DATATYPES,
    ITEM_SIZE,
    InferenceRequest,
    Tensor,
    count_bytes,
    element_count,
)
from sluice.config.tensors import TensorInput, TensorOutput
from sluice.contract.reasons import Reason


@dataclass(frozen=True, slots=True)
class Signature:
    """A model as its server knows it: name and version there, declared inputs and outputs.

    An empty `version` leaves the choice to the server. Without inputs nothing is declared, and
    whatever is well-formed fits.
    """

    model: str
    version: str = ""
    inputs: tuple[TensorInput, ...] = ()
    outputs: tuple[TensorOutput, ...] = ()

    def input(self, name: str) -> TensorInput | None:
        """The declared input of this name."""
        return next((declared for declared in self.inputs if declared.name == name), None)

    @property
    def image_inputs(self) -> tuple[TensorInput, ...]:
        """Inputs that take pictures."""
        return tuple(declared for declared in self.inputs if declared.image is not None)

    @property
    def labelled(self) -> bool:
        """Whether any output has labels."""
        return any(output.labels for output in self.outputs)

    def only_input(self, where: str) -> TensorInput:
        """The model's single input (optional ones aside). Raises ConversionError (422)."""
        needed = [declared for declared in self.inputs if not declared.optional]
        if len(needed) == 1:
            return needed[0]
        names = ", ".join(declared.name for declared in self.inputs) or "none"
        raise ConversionError(
            Reason.INPUT_NOT_NAMED, where, f"holds one unnamed tensor; the model declares {names}"
        )


def check(inference: InferenceRequest, signature: Signature, limits: ConversionLimits) -> None:
    """Raises ConversionError unless every tensor is sound and fits the declared inputs."""
    if not inference.inputs:
        raise ConversionError(Reason.NO_INPUTS, "inputs", "must hold at least one tensor")
    if sum(len(tensor.data) for tensor in inference.inputs) > limits.max_tensor_bytes:
        raise ConversionError(
            Reason.TENSORS_TOO_LARGE, "inputs", f"exceed {limits.max_tensor_bytes} bytes"
        )
    seen: set[str] = set()
    for tensor in inference.inputs:
        if tensor.name in seen:
            raise ConversionError(
                Reason.INPUT_TWICE, f"{tensor.field}.name", f"{tensor.name!r} stands twice"
            )
        seen.add(tensor.name)
        check_datatype(tensor.datatype, tensor.field)
        _check_shape(tensor, limits)
        if signature.inputs:
            _check_declared(tensor, signature)
        _check_data(tensor)
    missing = [i.name for i in signature.inputs if not i.optional and i.name not in seen]
    if missing:
        raise ConversionError(Reason.MISSING_INPUT, "inputs", f"lacks {', '.join(missing)}")


def check_datatype(datatype: str, where: str) -> None:
    """Raises ConversionError (422) for a name that V2 does not know."""
    if datatype not in DATATYPES:
        raise ConversionError(
            Reason.UNKNOWN_DATATYPE, f"{where}.datatype", f"{datatype[:40]!r} is no V2 datatype"
        )


def fits(shape: Sequence[int], declared: Sequence[int]) -> bool:
    """Whether a shape is one that the declaration (-1: any size) stands for."""
    return len(shape) == len(declared) and all(
        wanted in (-1, size) for size, wanted in zip(shape, declared, strict=True)
    )


def resolve(declared: TensorInput, count: int, where: str) -> tuple[int, ...]:
    """The shape of `count` elements, the declaration's only open dimension taken from the count.

    Raises ConversionError (422) where no whole number fits, or more dimensions are open.
    """
    wanted = _image_shape(declared)
    fixed = element_count([size for size in wanted if size != -1])
    open_dimensions = wanted.count(-1)
    if open_dimensions == 0 and count == fixed:
        return wanted
    if open_dimensions > 1:
        raise ConversionError(
            Reason.SHAPE_OPEN, where, f"needs a shape: {declared.name} is declared {list(wanted)}"
        )
    if open_dimensions == 0 or fixed == 0 or count % fixed:
        raise ConversionError(
            Reason.WRONG_COUNT,
            where,
            f"{count} elements do not fill {declared.name} {list(wanted)}",
        )
    return tuple(count // fixed if size == -1 else size for size in wanted)


def place(declared: TensorInput, shape: tuple[int, ...], count: int, where: str) -> tuple[int, ...]:
    """The shape of a tensor that a client wrote nested like `shape`, without saying its shape.

    Flat data take the declared shape; data without the batch dimension get one of size 1. Raises
    ConversionError (422).
    """
    if fits(shape, declared.shape):
        return shape
    batch_of_one = len(shape) > 0 and fits((1, *shape), declared.shape)
    if batch_of_one:
        return 1, *shape
    if len(shape) <= 1:
        return resolve(declared, count, where)
    raise ConversionError(
        Reason.WRONG_SHAPE, where, f"{list(shape)} is not {declared.name} {list(declared.shape)}"
    )


def _image_shape(declared: TensorInput) -> tuple[int, ...]:
    if declared.image is None:
        return declared.shape
    return (*declared.shape[:-3], *declared.image.shape)


def _check_shape(tensor: Tensor, limits: ConversionLimits) -> None:
    if len(tensor.shape) > limits.max_dimensions:
        raise ConversionError(
            Reason.WRONG_SHAPE,
            f"{tensor.field}.shape",
            f"has over {limits.max_dimensions} dimensions",
        )
    if any(size < 0 for size in tensor.shape):
        raise ConversionError(
            Reason.WRONG_SHAPE,
            f"{tensor.field}.shape",
            f"{list(tensor.shape)} has a negative dimension",
        )


def _check_declared(tensor: Tensor, signature: Signature) -> None:
    declared = signature.input(tensor.name)
    if declared is None:
        names = ", ".join(known.name for known in signature.inputs)
        raise ConversionError(
            Reason.UNKNOWN_INPUT, f"{tensor.field}.name", f"{tensor.name[:80]!r} is none of {names}"
        )
    if tensor.datatype != declared.datatype:
        raise ConversionError(
            Reason.WRONG_DATATYPE,
            f"{tensor.field}.datatype",
            f"{tensor.name} is {declared.datatype}, not {tensor.datatype}",
        )
    if not fits(tensor.shape, declared.shape):
        raise ConversionError(
            Reason.WRONG_SHAPE,
            f"{tensor.field}.shape",
            f"{list(tensor.shape)} is not {tensor.name} {list(declared.shape)}",
        )


def _check_data(tensor: Tensor) -> None:
    where = f"{tensor.field}.data"
    wanted = element_count(tensor.shape)
    item = ITEM_SIZE.get(tensor.datatype)
    if item is None:
        found = count_bytes(tensor.data, where)
    elif len(tensor.data) % item:
        raise ConversionError(
            Reason.WRONG_COUNT, where, f"{len(tensor.data)} bytes are no whole number of elements"
        )
    else:
        found = len(tensor.data) // item
    if found != wanted:
        raise ConversionError(
            Reason.WRONG_COUNT,
            where,
            f"shape {list(tensor.shape)} takes {wanted} elements, {found} were sent",
        )
    if tensor.datatype == "BOOL" and bytes(tensor.data).translate(None, b"\x00\x01"):
        raise ConversionError(Reason.WRONG_ELEMENT, where, "a BOOL byte is neither 0 nor 1")
