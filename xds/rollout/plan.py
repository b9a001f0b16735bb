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

    `records_failure`: the config is the one before a change that has failed, as a revision of its
    own. It is in force already, and the failure stays the latest one.
    """

    watch: float = 0.0
    trial: Trial | None = None
    records_failure: bool = False


AT_ONCE: Final = Plan()
"""To all nodes, and nobody judges it."""
