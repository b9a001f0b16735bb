"""The event `canary`: what happens to a canary, for operators who watch."""

from xds.canary.analysis import Change, State
from xds.events import Events


class CanaryEvents:
    """Tells what the control plane and operators do with canaries."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def on_state(self, model: str, version: str, state: State) -> None:
        """The steps of a canary have another state."""
        self._emit(model, version, action=state.phase.value, reason=state.reason)

    def on_revision(
        self,
        model: str,
        version: str,
        action: Change,
        revision: int,
        *,
        percent: float | None = None,
        reason: str | None = None,
    ) -> None:
        """A revision has set, promoted or aborted a canary. `reason`: of a decision about it."""
        optional = {"percent": percent, "reason": reason}
        told = {name: value for name, value in optional.items() if value is not None}
        self._emit(model, version, action=action.value, revision=revision, **told)

    def _emit(self, model: str, version: str, **data: object) -> None:
        self._events.emit("canary", model=model, version=version, **data)
