"""What a supervisor knows of its workers."""

from dataclasses import dataclass
from typing import Literal

WorkerState = Literal["starting", "running", "silent", "hung", "down"]


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """State of one worker.

    `starting`: no heartbeat yet; `silent`: the latest heartbeat is more than a second old; `hung`:
    the supervisor kills the process; `down`: no process runs. `silence` is the time in seconds
    since the latest heartbeat or the start. It is None, as `pid`, while no process runs. `serving`:
    the worker has a config, listens, and does not drain.
    """

    worker: int
    state: WorkerState
    pid: int | None
    silence: float | None
    serving: bool = False
