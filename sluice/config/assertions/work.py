"""Bounds the work of a check, and names what it cannot decide."""

from dataclasses import dataclass

MAX_STEPS = 5_000_000
"""Conditions that the assertions of one config may look at: some seconds of work."""


class UndecidableError(Exception):
    """Whether an assertion is true cannot be found out. The text says why, and what to change."""


@dataclass(slots=True)
class Work:
    """The steps that are left."""

    steps: int = MAX_STEPS

    def step(self, count: int = 1) -> None:
        """Count work. Raises UndecidableError if too much was done."""
        self.steps -= count
        if self.steps < 0:
            raise UndecidableError(
                "there are too many combinations of rules and assertions to check: name models in "
                "the assertions, or use fewer rules"
            )
