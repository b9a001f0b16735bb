"""The interface of the example models, and the checks of inputs and outputs that they share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from .tensors import InvalidInputError, Tensor, TensorSpec

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


class InferenceModel(Protocol):
    """One version of a model."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def infer(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Every declared output, in order; raises InvalidInputError."""


def single_input(inputs: Sequence[Tensor], name: str) -> Tensor:
    """The input of a model that has one input; raises InvalidInputError for any other inputs."""
    if len(inputs) != 1 or inputs[0].name != name:
        sent = ", ".join(repr(tensor.name) for tensor in inputs)
        raise InvalidInputError(f"expected one input {name!r}, got {sent}")
    return inputs[0]


def select_outputs(outputs: Sequence[Tensor], names: Sequence[str]) -> tuple[Tensor, ...]:
    """The outputs with these names, in the order of the names; all outputs if there are none.

    Raises InvalidInputError for an unknown name.
    """
    if not names:
        return tuple(outputs)
    by_name = {tensor.name: tensor for tensor in outputs}
    for name in names:
        if name not in by_name:
            raise InvalidInputError(f"unknown output {name!r}, expected {', '.join(by_name)}")
    return tuple(by_name[name] for name in names)
