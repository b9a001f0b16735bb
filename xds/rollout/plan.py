"""How one config is rolled out, and who judges it."""

from dataclasses import dataclass
from typing import Final, Protocol


class Trial(Protocol):
    """Judges a change of the config against the time before it."""

    def start(self) -> None:
        """The change is in force now."""

    def failure(self) -> str | None:
        """Why the change is worse than what was before; None if it is not."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`watch`: seconds for which `trial` judges the config after it is in force.

    If the trial finds a failure, the config before is put in force again.
    """

    watch: float = 0.0
    trial: Trial | None = None


AT_ONCE: Final = Plan()
"""To all nodes, and nobody judges it."""
