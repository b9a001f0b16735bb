"""How one config is rolled out, and who judges it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol


class Trial(Protocol):
    """Judges a change of the config against the time before it."""

    def start(self) -> None:
        """The change is in force now."""

    def failure(self) -> str | None:
        """Why the change is worse than what was before; None if it is not."""


class StageTrial(Protocol):
    """Judges the Envoys of a stage against the other ones at the same time."""

    def start(self, nodes: Collection[str]) -> None:
        """The Envoys with these ids have the staged config now."""

    def failure(self) -> str | None:
        """Why these Envoys are worse than the other ones; None if they are not."""

    def end(self) -> None:
        """The stage is over. Nobody asks any more."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A share of the Envoys gets the config first, and the others `seconds` later.

    If `trial` finds a failure, the config does not reach the others. `revision` is the number of
    the revision with which the stage has begun: a later config of the same stage reaches the same
    Envoys, and the time goes on. None: no later config is of this stage. `nodes` are the ids of the
    Envoys that had the config before the control plane has started; empty: they are chosen.
    """

    share: float
    seconds: float
    trial: StageTrial | None = None
    revision: int | None = None
    nodes: frozenset[str] = frozenset()

    def is_same(self, other: "Stage") -> bool:
        """Whether both are the same stage."""
        return self is other or (self.revision is not None and self.revision == other.revision)


@dataclass(frozen=True, slots=True)
class Plan:
    """`watch`: seconds for which `trial` judges the config after it is in force.

    If the trial finds a failure, the config before is put in force again. `stage`: some Envoys get
    the config before it is in force; None: all get it at once.

    `records_failure`: the config is the one before a change that has failed, as a revision of its
    own. It is in force already, and the failure stays the latest one.
    """

    watch: float = 0.0
    trial: Trial | None = None
    stage: Stage | None = None
    records_failure: bool = False


AT_ONCE: Final = Plan()
"""To all nodes, and nobody judges it."""

TICK: Final = 5.0
"""Seconds from one judgement of a trial to the next. A rollout meanwhile may delay it."""
