"""Finds the changes of states that are worth a line in the log. Pure: times are passed in.

A state that is bad at first sight may only be that of a start, so it is a change only if it lasts.
A key has at most one change per interval, so that a state that flaps cannot flood the log.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class StateChange(Generic[State]):
    """A change from `old` to `new`. `after`: seconds since the change before it, or first sight.

    `old` is None if the key never had the good state.
    """

    old: State | None
    new: State
    after: float


@dataclass(slots=True)
class _Tracked(Generic[State]):
    state: State
    since: float
    reported: State | None
    reported_at: float
    quiet_until: float


class StateChanges(Generic[State]):
    """Tracks the states of keys. Times are in seconds.

    A key that has not had the state `good` yet has no change in its first `grace` seconds.
    `interval` is the minimum time between two changes of a key.
    """

    def __init__(self, good: State, *, grace: float, interval: float) -> None:
        self._good = good
        self._grace = grace
        self._interval = interval
        self._tracked: dict[Hashable, _Tracked[State]] = {}

    def observe(self, now: float, key: Hashable, state: State) -> StateChange[State] | None:
        """Take note of a state; return the change to log, if any."""
        found = self._tracked.get(key)
        if found is None:
            found = self._tracked[key] = _Tracked(state, now, None, now, now + self._grace)
        elif state != found.state:
            found.state, found.since = state, now
        if found.reported is None and state == self._good:
            found.reported, found.reported_at, found.quiet_until = state, now, now
        if state == found.reported or now < found.quiet_until:
            return None
        change = StateChange(found.reported, state, now - found.reported_at)
        found.reported, found.reported_at = state, now
        found.quiet_until = now + self._interval
        return change

    def since(self, key: Hashable) -> float:
        """The time at which a key got its present state. Raises KeyError for an unknown key."""
        return self._tracked[key].since

    def forget(self, key: Hashable) -> None:
        """Forget a key, if it is known."""
        self._tracked.pop(key, None)
