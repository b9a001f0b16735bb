"""What every example model offers the server, and the checks on input that they share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from .tensors import InvalidInputError, Tensor, TensorSpec

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


class Model(Protocol):
    """One version of a model: what it takes, what it gives, and the function between."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def infer(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Every declared output, in order; raises InvalidInputError."""


def only_input(inputs: Sequence[Tensor], name: str) -> Tensor:
    """The single input of a model that takes one; else raises InvalidInputError."""
    if len(inputs) != 1 or inputs[0].name != name:
        sent = ", ".join(repr(tensor.name) for tensor in inputs)
        raise InvalidInputError(f"expected the one input {name!r}, got {sent}")
    return inputs[0]


def chosen(outputs: Sequence[Tensor], names: Sequence[str]) -> tuple[Tensor, ...]:
    """The outputs that a request named, in its order; all when it named none."""
    if not names:
        return tuple(outputs)
    by_name = {tensor.name: tensor for tensor in outputs}
    for name in names:
        if name not in by_name:
            raise InvalidInputError(f"no output {name!r}, the model has {', '.join(by_name)}")
    return tuple(by_name[name] for name in names)
