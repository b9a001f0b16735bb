"""One version of one model as one upstream: what its REST and its gRPC port both answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .digits import Digits
from .faults import Faults
from .model import Model, chosen
from .sentiment import Sentiment
from .tensors import NotFoundError, Tensor

SERVER_NAME = "sluice-example-models"
SERVER_VERSION = "1"
PLATFORM = "numpy"
# Above the gateway's default body limit, so that the gateway's refusal is the one that is met.
MAX_BODY = 16 * 1024 * 1024

MODELS = ("sentiment", "digits", "echo")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model's name and version; `model` is None for `echo`, which computes nothing."""

    name: str
    version: str
    model: Model | None
    faults: Faults = field(default_factory=Faults)

    @classmethod
    def load(cls, name: str, version: str) -> "Endpoint":
        """Loads a model that ships here; raises NotFoundError for any other."""
        try:
            if name == "sentiment":
                return cls(name, version, Sentiment.load(version))
            if name == "digits":
                return cls(name, version, Digits.load(version))
        except FileNotFoundError:
            raise NotFoundError(f"model {name!r} has no version {version!r} here") from None
        if name == "echo":
            return cls(name, version, None)
        raise NotFoundError(f"no model {name!r}, expected one of {', '.join(MODELS)}")

    def check(self, name: str, version: str) -> None:
        """Raises NotFoundError unless this is the model, and the version where one is named."""
        if name != self.name:
            raise NotFoundError(f"no model {name!r} here, this endpoint serves {self.name!r}")
        if version not in ("", self.version):
            raise NotFoundError(
                f"model {name!r} has no version {version!r} here, only {self.version!r}"
            )

    async def infer(
        self,
        model: Model,
        inputs: Sequence[Tensor],
        outputs: Sequence[str],
        asked: Mapping[str, str],
    ) -> tuple[Tensor, ...]:
        """The outputs asked for, after whatever fault was; `asked` is the headers or metadata."""
        await self.faults.strike(asked)
        return chosen(model.infer(inputs), outputs)
