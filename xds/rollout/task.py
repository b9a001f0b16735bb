"""A rollout that is to be done, and how one ended."""

from dataclasses import dataclass, field, replace
from typing import Self

from xds.protocol.nodes import Nack
from xds.resources.compiled import CompiledConfig
from xds.rollout.plan import AT_ONCE, Plan


@dataclass(frozen=True, slots=True)
class RolloutResult:
    """How a rollout ended. `failure`: why the config is not in force; None if it is.

    `nack`: a node rejected a step. `worse`: why the config is not in force any more, or does not
    leave its stage. `unresponsive` are the ids of nodes that did not respond in time. `rejected` is
    the config that failed.
    """

    nack: Nack | None = None
    unresponsive: tuple[str, ...] = ()
    rejected: CompiledConfig | None = field(default=None, compare=False, repr=False)
    worse: str | None = None

    @property
    def failure(self) -> str | None:
        """Why the config is not in force."""
        return self.worse if self.nack is None else str(self.nack)


@dataclass(frozen=True, slots=True)
class Task:
    """A config to roll out. `renewal`: the one in force with other key sets.

    `base`: what the other nodes get while the target is staged, instead of what is in force.
    `undoes`: how a config has failed, before which this config was in force.
    """

    target: CompiledConfig
    renewal: bool = False
    plan: Plan = AT_ONCE
    base: CompiledConfig | None = None
    undoes: RolloutResult | None = None

    def after(self, known: Self) -> Self:
        """The task, with the plan of one that it continues with other key sets or files.

        Also the config that undoes another one is renewed: its rollout ends as that of the first.
        """
        if self.base is not None or is_same_revision(self.target, known.target):
            return replace(self, plan=known.plan, undoes=known.undoes)
        return self

    def upon(self, known: Self) -> Self:
        """The task, which ends the rollout of one that is not done yet.

        While the target is staged, the other nodes get what that rollout would have given them.
        """
        if self.plan.stage is None or self.base is not None:
            return self
        return replace(self, base=known.target if known.plan.stage is None else known.base)


def is_same_revision(one: CompiledConfig, other: CompiledConfig) -> bool:
    """Whether two configs are of one revision of the history."""
    return one.revision is not None and one.revision == other.revision
