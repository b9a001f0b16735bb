"""Judges a config while it is staged, and after it is in force; says what is rolled out then."""

import logging
from dataclasses import replace

from xds.protocol.nodes import Nodes
from xds.resources.compiled import CompiledConfig
from xds.rollout.common_keys import with_common_keys
from xds.rollout.stage import RunningStage
from xds.rollout.task import RolloutResult, Task, is_same_revision
from xds.rollout.watch import Watch

log = logging.getLogger(__name__)


class Judgement:
    """What is judged now: at most one stage or one config in force. Times are in seconds."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self.stage: RunningStage | None = None
        self._watch: Watch | None = None

    @property
    def staged(self) -> CompiledConfig | None:
        """The config of the stage that runs; None if there is none."""
        return None if self.stage is None else self.stage.target

    @property
    def watched(self) -> int | None:
        """The revision in force that is judged; None if none is."""
        return None if self._watch is None else self._watch.judged.revision

    @property
    def due(self) -> float | None:
        """The time of the next judgement; None if nothing is judged."""
        judged = self.stage or self._watch
        return None if judged is None else judged.due

    def next_task(
        self, waiting: Task | None, in_force: CompiledConfig | None, now: float
    ) -> Task | None:
        """Judge if it is time. Returns what is to be rolled out because of that, if anything.

        `waiting`: the config that is to be rolled out next. Other key sets or files of what is
        judged are no reason to end the judgement, and any other config is.
        """
        if self.stage is not None:
            return self._judge_stage(self.stage, waiting, in_force, now)
        return None if self._watch is None else self._judge_watch(self._watch, waiting, now)

    def _judge_watch(self, watch: Watch, waiting: Task | None, now: float) -> Task | None:
        if now < watch.due or not _is_kept(watch, waiting):
            return None
        worse = watch.failure(now)
        if worse is not None:
            self._watch = None
            # Keys may have been revoked meanwhile.
            common = with_common_keys(watch.before.snapshot, self._nodes.snapshot)
            return _undo(watch.judged, replace(watch.before, snapshot=common), worse)
        if watch.is_passed(now):
            self._watch = None
            version = watch.judged.snapshot.version
            log.info("version %s stays: no failure was found while it was watched", version)
        return None

    def _judge_stage(
        self, stage: RunningStage, waiting: Task | None, in_force: CompiledConfig | None, now: float
    ) -> Task | None:
        """Returns the config in force if the staged one is worse, and the staged one if it is not
        and its time is over."""
        if now < stage.due or not (waiting is None or self.is_staged(waiting)):
            return None
        target = stage.target if waiting is None else waiting.target
        base = in_force if waiting is None or waiting.base is None else waiting.base
        worse = stage.failure(self._nodes, now)
        if worse is not None and base is not None:
            # A copy: its rollout is no renewal of what is in force.
            return _undo(target, replace(base), worse)
        if not stage.is_passed(now):
            return None
        log.info("version %s leaves its stage: no failure was found", target.snapshot.version)
        return Task(target, plan=replace(stage.plan, stage=None))

    def is_staged(self, task: Task) -> bool:
        """Whether a task is of the stage that runs: the same nodes have its config."""
        running, stage = self.stage, task.plan.stage
        return running is not None and stage is not None and stage.is_same(running.stage)

    def stage_of(self, task: Task) -> RunningStage | None:
        """The stage of a task; None if all nodes get its config at once."""
        if self.stage is not None and self.is_staged(task):
            return replace(self.stage, target=task.target)
        return RunningStage.of(task.target, task.plan, self._nodes)

    def begin_stage(self, stage: RunningStage, now: float) -> None:
        """Judge a config that some Envoys have from now on."""
        self._watch, self.stage = None, stage
        stage.start(now)

    def end_stage(self) -> None:
        """Judge the staged config no longer, if there is one."""
        if self.stage is not None:
            self.stage.end()
            self.stage = None

    def begin_watch(self, task: Task, before: CompiledConfig | None, now: float) -> None:
        """Judge what is in force now, if its plan says so."""
        if task.renewal or (self._watch is not None and _is_kept(self._watch, task)):
            return
        self._watch, plan = None, task.plan
        if plan.trial is not None and before is not None:
            self._watch = Watch.begin(task.target, before, plan.trial, now, plan.watch)

    def end_watch(self) -> None:
        """Judge what is in force no longer."""
        self._watch = None


def _is_kept(watch: Watch, task: Task | None) -> bool:
    return task is None or task.renewal or is_same_revision(task.target, watch.judged)


def _undo(judged: CompiledConfig, before: CompiledConfig, worse: str) -> Task:
    return Task(before, undoes=RolloutResult(worse=worse, rejected=judged))
