"""Moves canaries with steps forward: measures, judges, and changes the config by revisions."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from sluice.config import ConfigError, GatewayConfig
from sluice.config.checked import LoadedConfig
from sluice.config.edit import model_data, with_model
from sluice.contract.history import AUTHOR, ROLLBACK
from sluice.printable import printable
from xds.canary.analysis import (
    FINISHED,
    Change,
    Phase,
    Plan,
    State,
    advanced,
    described,
    judge,
    reconciled,
    wanted,
)
from xds.canary.edits import aborted, promoted, with_percent
from xds.canary.events import CanaryEvents
from xds.canary.figures import Part, combined
from xds.canary.meter import Meter
from xds.canary.planes import Measured, Parts, PlaneRecords, Planes, without_step
from xds.canary.records import CanaryRecords, Numbered, Progress, Stored
from xds.candidate.apply import Applier
from xds.envoys.observations import Observations
from xds.events import Events
from xds.rollout.rollout import Rollout
from xds.sources.store.store import ConflictError, RecordConflictError, StoreUnavailableError

log = logging.getLogger(__name__)

INTERVAL: Final = 1.0
"""Seconds between two turns. Reports come every two seconds."""

MAX_ERROR: Final = 200
"""Characters of the error of a config that a reason quotes."""

DECISIONS: Final = ("set", "promote", "abort", "hold")
"""The decisions that are counted."""

Key = tuple[str, str]
"""A model and a version."""

_VERBS: Final[Mapping[Change, str]] = {
    Change.PROMOTE: "is promoted",
    Change.ABORT: "is aborted",
}


@dataclass(frozen=True, slots=True)
class _Turn:
    """The config in force, and its canaries with steps.

    `settled`: no rollout is running. `is_rollback`: whether the revision is a rollback.
    """

    loaded: LoadedConfig
    revision: int
    plans: Mapping[Key, Plan]
    settled: bool
    is_rollback: bool = False

    def is_stable(self, key: Key) -> bool:
        model = self.loaded.config.models.get(key[0])
        return model is not None and model.stable_version == key[1]


class CanaryAnalysis:
    """Judges the canaries of a gateway. `plane` is the name of this control plane.

    With several control planes, one judges, and all measure. `decisions` counts those of this one.
    """

    def __init__(
        self,
        applier: Applier,
        rollout: Rollout,
        observations: Observations,
        events: Events,
        plane: str,
        *,
        decisions: Counter[str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._applier = applier
        self._rollout = rollout
        self._observations = observations
        self._events = CanaryEvents(events)
        self._plane = plane
        self._monotonic, self._now = monotonic, now
        self._records = CanaryRecords(applier.store)
        self._planes = PlaneRecords(applier.store, plane)
        self._meters: dict[Key, tuple[str, Meter]] = {}
        self._active: set[Key] | None = None
        """Canaries whose states are not final; None before they are read."""
        self._plans: tuple[GatewayConfig, Mapping[Key, Plan]] | None = None
        self._origin: tuple[int, str] | None = None
        """A revision and its origin."""
        self._decisions = decisions if decisions is not None else Counter()

    async def run(self) -> None:
        """Take turns until the task is cancelled."""
        unavailable = False
        while True:
            try:
                await self.turn()
                unavailable = False
            except StoreUnavailableError as error:
                if not unavailable:
                    log.error("the analysis of canaries waits: %s", error)
                unavailable = True
            except (ConflictError, RecordConflictError):
                pass  # Another writer was first: the next turn reads what it has written.
            await asyncio.sleep(INTERVAL)

    async def turn(self) -> None:
        """Measure once and, if this control plane is the one that judges, judge.

        Raises StoreUnavailableError, ConflictError and RecordConflictError: then nothing is lost,
        and the next turn goes on.
        """
        turn = self._look()
        if turn is None:
            return
        if self._active is None:
            self._active = {k for k, each in (await self._records.all()).items() if _active(each)}
        if not turn.plans and not self._active:
            self._meters.clear()
            return
        planes = await self._planes.sign(self._monotonic())
        turn = replace(turn, is_rollback=await self._is_rollback(turn.revision))
        states = {key: await self._records.get(*key) for key in {*turn.plans, *self._active}}
        measured = self._measure(turn, states, planes)
        if len(planes.signs) > 1:
            parts = {"/".join(key): each for key, each in measured.items()}
            await self._planes.publish(Parts(parts))
        if planes.judge == self._plane:
            others = [name for name in planes.signs if name != self._plane]
            seen_by = {name: await self._planes.parts_of(name) for name in others}
            for key, found in states.items():
                states[key] = await self._step(turn, key, found, _parts(key, measured, seen_by))
        self._active = {key for key, found in states.items() if _active(found)}

    def _look(self) -> _Turn | None:
        compiled = self._rollout.in_force
        if compiled is None or compiled.loaded is None or compiled.revision is None:
            return None
        loaded = compiled.loaded
        if self._plans is None or self._plans[0] is not loaded.config:
            self._plans = loaded.config, _plans(loaded.config)
        settled = self._rollout.latest is compiled
        return _Turn(loaded, compiled.revision, self._plans[1], settled)

    async def _is_rollback(self, number: int) -> bool:
        if self._origin is None or self._origin[0] != number:
            revision = await self._applier.store.revision(number)
            self._origin = number, "" if revision is None else revision.origin
        return self._origin[1] == ROLLBACK

    def _measure(
        self, turn: _Turn, states: Mapping[Key, Numbered], planes: Planes
    ) -> dict[Key, Measured]:
        """What this control plane has seen of each step that is in force here."""
        now, measured = self._monotonic(), dict[Key, Measured]()
        for key, plan in turn.plans.items():
            stored = states[key].stored
            if stored is None or not _in_force(plan, stored.state):
                continue
            step = f"{plan.digest} {stored.state.step} {planes.epoch}"
            known = self._meters.get(key)
            if known is None or known[0] != step:
                meter = Meter(self._observations, key[0], plan.version, plan.stable)
                known = self._meters[key] = step, meter
            measured[key] = Measured(step, known[1].read(now))
        self._meters = {key: self._meters[key] for key in measured}
        return measured

    async def _step(
        self, turn: _Turn, key: Key, found: Numbered, parts: list[Part] | None
    ) -> Numbered:
        """Look at the config, judge, and change the config, as far as possible now."""
        before = None if found.stored is None else found.stored
        plan = turn.plans.get(key)
        state = reconciled(
            None if before is None else before.state,
            plan,
            is_stable=turn.is_stable(key),
            revision=turn.revision,
            at=self._now(),
            is_rollback=turn.is_rollback,
        )
        if state is None:
            return found
        progress = None if before is None else before.progress
        if plan is not None and parts is not None and state.phase is Phase.RUNNING:
            seen = combined(parts)
            verdict = judge(plan, state, seen)
            text = verdict.reason
            if seen.gap:
                text = f"waits: {seen.gap}"
            elif text.startswith("waits"):
                text = f"{text}; {described(plan, seen)}"
            copies = seen.copies if plan.criteria.mirrors else None
            progress = Progress(seen.seconds, seen.canary, seen.stable, text, copies)
            state = advanced(plan, state, verdict, seen, self._now())
        elif state.phase is Phase.RUNNING:
            progress = None
        found = await self._put(key, found, Stored(state, progress))
        change = None if plan is None or not turn.settled else wanted(state, plan)
        if plan is not None and change is not None:
            return await self._apply(turn, key, plan, found, change)
        return found

    async def _put(self, key: Key, found: Numbered, stored: Stored) -> Numbered:
        """Write a state, if it has changed, and tell it."""
        if stored == found.stored:
            return found
        result = await self._records.put(*key, stored, found.number)
        before = None if found.stored is None else found.stored.state
        state = stored.state
        if before is None or (before.phase, before.plan) != (state.phase, state.plan):
            self._tell(key, state)
        return result

    def _tell(self, key: Key, state: State) -> None:
        if state.phase is Phase.HELD:
            self._decisions["hold"] += 1
        model, version = key
        level = logging.WARNING if state.phase in _WARNED else logging.INFO
        log.log(level, "canary %s/%s is %s: %s", model, version, state.phase, state.reason)
        self._events.on_state(model, version, state)

    async def _apply(
        self, turn: _Turn, key: Key, plan: Plan, found: Numbered, change: Change
    ) -> Numbered:
        """Append the revision that does what the state says."""
        assert found.stored is not None
        state, (model, version) = found.stored.state, key
        percent = plan.steps[state.step].percent
        verb = _VERBS.get(change, f"gets {percent:g} %")
        try:
            text = await asyncio.to_thread(_edited, turn.loaded, key, change, percent)
            candidate = await self._applier.check(text)
            revision = await self._applier.apply(
                candidate,
                author=AUTHOR,
                reason=f"model {model}: canary {version} {verb}: {state.reason}",
                origin="canary",
                expected=turn.revision,
            )
        except ConfigError as error:
            reason = f"the config refuses that it {verb}: {printable(str(error), MAX_ERROR)}"
            held = replace(state, phase=Phase.HELD, reason=reason, author=AUTHOR, at=self._now())
            return await self._put(key, found, Stored(held, found.stored.progress))
        self._decisions[change.value] += 1
        log.info("canary %s/%s %s by revision %d", model, version, verb, revision.number)
        told = percent if change is Change.SET else None
        self._events.on_revision(
            model, version, change, revision.number, percent=told, reason=state.reason
        )
        appended = replace(state, appended=revision.number)
        return await self._put(key, found, Stored(appended, found.stored.progress))


_WARNED: Final = frozenset({Phase.HELD, Phase.ABORTING})


def _plans(config: GatewayConfig) -> dict[Key, Plan]:
    return {
        (name, canary.version): Plan.of(model, canary)
        for name, model in config.models.items()
        for canary in model.canaries
        if canary.steps
    }


def _active(found: Numbered) -> bool:
    return found.stored is not None and found.stored.state.phase not in FINISHED


def _in_force(plan: Plan, state: State) -> bool:
    """Whether the percentage in force is that of the step."""
    same = state.phase is Phase.RUNNING and state.plan == plan.digest
    return same and plan.percent == plan.steps[state.step].percent


def _parts(
    key: Key, measured: Mapping[Key, Measured], seen_by: Mapping[str, Parts]
) -> list[Part] | None:
    """What each control plane has seen of the step; None if it is not in force here."""
    own = measured.get(key)
    if own is None:
        return None
    parts = [own.part]
    for plane, seen in seen_by.items():
        found = seen.canaries.get("/".join(key))
        same = found is not None and found.step == own.step
        parts.append(found.part if found is not None and same else without_step(plane))
    return parts


def _edited(loaded: LoadedConfig, key: Key, change: Change, percent: float) -> str:
    """The text of the config with a change of a canary."""
    name, version = key
    model, data = loaded.config.models[name], model_data(loaded.text, name)
    assert isinstance(data, dict)
    if change is Change.SET:
        return with_model(loaded.text, name, with_percent(model, data, version, percent))
    edit = promoted if change is Change.PROMOTE else aborted
    return with_model(loaded.text, name, edit(model, data, version))
