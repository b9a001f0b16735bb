"""One version of one model, as its REST and its gRPC service present it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .digits import DigitClassifier
from .faults import Faults
from .model import InferenceModel, select_outputs
from .sentiment import SentimentClassifier
from .tensors import NotFoundError, Tensor

SERVER_NAME = "sluice-example-models"
SERVER_VERSION = "1"
PLATFORM = "numpy"
MAX_BODY = 16 * 1024 * 1024
"""Larger than the default limit of the gateway, so that the gateway refuses large bodies first."""

MODELS = ("sentiment", "digits", "echo")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model version. `model` is None for `echo`.

    `faults` are the faults of its calls; None if callers may not inject any.
    """

    name: str
    version: str
    model: InferenceModel | None
    faults: Faults | None = None

    @classmethod
    def load(cls, name: str, version: str, *, faults: bool = False) -> "ServedModel":
        """Loads a version with its weights; raises NotFoundError if there is no such version."""
        injected = Faults() if faults else None
        try:
            if name == "sentiment":
                return cls(name, version, SentimentClassifier.load(version), injected)
            if name == "digits":
                return cls(name, version, DigitClassifier.load(version), injected)
        except FileNotFoundError:
            raise NotFoundError(f"model {name!r} has no version {version!r}") from None
        if name == "echo":
            return cls(name, version, None, injected)
        raise NotFoundError(f"unknown model {name!r}, expected one of {', '.join(MODELS)}")

    def check_name(self, name: str, version: str) -> None:
        """Raises NotFoundError for another model or version. An empty version matches."""
        if name != self.name:
            raise NotFoundError(f"unknown model {name!r}, this server has {self.name!r}")
        if version not in ("", self.version):
            raise NotFoundError(
                f"unknown version {version!r} of model {name!r}, this server has {self.version!r}"
            )

    async def inject_faults(self, headers: Mapping[str, str]) -> None:
        """Injects the faults of a call with these headers or this metadata."""
        if self.faults is not None:
            await self.faults.inject(headers)

    async def infer(
        self,
        model: InferenceModel,
        inputs: Sequence[Tensor],
        outputs: Sequence[str],
        headers: Mapping[str, str],
    ) -> tuple[Tensor, ...]:
        """Injects the faults, then computes the requested outputs.

        `headers` are the headers or the metadata of the call. An empty `outputs` requests all.
        """
        await self.inject_faults(headers)
        return select_outputs(model.infer(inputs), outputs)
