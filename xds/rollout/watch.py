"""The time after a rollout in which the config in force is judged."""

from dataclasses import dataclass
from typing import Self

from xds.resources.compiled import CompiledConfig
from xds.rollout.plan import TICK, Trial


@dataclass(slots=True)
class Watch:
    """A config in force that is judged, and the config before it.

    `due` is the time of the next judgement, `until` that of the last one.
    """

    judged: CompiledConfig
    before: CompiledConfig
    trial: Trial
    due: float
    until: float

    @classmethod
    def begin(
        cls,
        judged: CompiledConfig,
        before: CompiledConfig,
        trial: Trial,
        now: float,
        seconds: float,
    ) -> Self:
        """Judge a config from now on, for some seconds."""
        trial.start()
        return cls(judged, before, trial, due=now + TICK, until=now + seconds)

    def failure(self, now: float) -> str | None:
        """Why the config before must come back; None if nothing is known."""
        self.due = now + TICK
        return self.trial.failure()

    def is_passed(self, now: float) -> bool:
        """Whether the config stays."""
        return now >= self.until
