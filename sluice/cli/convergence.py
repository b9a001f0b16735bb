"""Waits until all nodes have accepted a revision, and while its traffic is judged."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from sluice.cli.api import Api, Data
from sluice.cli.commands import CommandError
from sluice.cli.exit_status import ExitStatus
from sluice.cli.numbers import seconds
from sluice.cli.output import (
    Block,
    Cell,
    Line,
    Row,
    Style,
    Table,
    plain,
    rendered,
    show_note,
    terminal,
)
from sluice.contract.history import AUTHOR, ROLLBACK, rejection, rejection_reason

POLL_INTERVAL: Final = 0.25
"""Seconds between two looks at the nodes."""

JUDGED_INTERVAL: Final = 1.0
"""Seconds between two looks while traffic is judged, which takes minutes."""

TIMEOUT: Final = 60.0
"""Seconds to wait by default."""

STYLES: Final[dict[str, Style]] = {"ack": "good", "nack": "bad", "pending": "warn"}

NODE_COLUMNS: Final = ("NODE", "KIND", "STATE", "VERSION", "LAG")

JUDGED: Final = "the traffic is judged"

MAX_SHOWN: Final = 20
"""Nodes that are shown while the command waits. Of more, those that have not accepted yet."""

MAX_NAMED: Final = 3
"""Envoys with a staged config that are named while the command waits."""

_RECENT: Final = 20
"""Newest revisions among which a rollback is looked for."""


def add_wait_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that can wait for the nodes."""
    parser.add_argument(
        "--wait", action="store_true",
        help="wait until all nodes have accepted the config, and while rollout.watch judges its "
        "traffic; fail if it is rejected",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=seconds(0.0), default=TIMEOUT,
        help="how long --wait waits for the nodes; default: %(default)g",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the nodes has found.

    `in_force`: the awaited version is in force. `judged`: its traffic is judged (`rollout.watch`).
    `stage`: only some Envoys have the awaited version yet; None if it is not staged.
    """

    in_force: bool
    nodes: list[Data]
    judged: bool = False
    stage: Data | None = None

    @property
    def converged(self) -> bool:
        """Whether all nodes have accepted the version."""
        return self.in_force and all(node["state"] == "ack" for node in self.nodes)

    @property
    def waits(self) -> bool:
        """Whether the control plane judges the version, in its stage or after it."""
        return self.judged or self.stage is not None

    @property
    def progress(self) -> str:
        """How many nodes are in each state, and the Envoys of the stage. It has no countdown."""
        states = Counter(str(node["state"]) for node in self.nodes)
        counts = [f"{count} {state}" for state, count in sorted(states.items())] or ["no node"]
        if self.stage is not None:
            counts.append(stage_text(self.stage, MAX_NAMED))
        return ", ".join([*counts, JUDGED] if self.judged else counts)

    @property
    def timed_progress(self) -> str:
        """The progress with the time that is left of the stage."""
        if self.stage is None:
            return self.progress
        return f"{self.progress}; the others follow in {self.stage['remaining']:.0f} s"


def stage_text(stage: Data, most: int) -> str:
    """Which Envoys have a version that the others do not have yet; at most `most` are named."""
    names, count = ", ".join(stage["nodes"][:most]), len(stage["nodes"])
    more = f" and {count - most} more" if count > most else ""
    return f"staged at {count} {'Envoy' if count == 1 else 'Envoys'}: {names}{more}"


def wait_for_nodes(api: Api, revision: int, version: str, timeout: float) -> int:
    """Wait until all nodes have accepted a revision, and while its traffic is judged.

    Raises CommandError if it is rejected, or if the nodes do not accept it in time.
    """
    end = time.monotonic() + timeout
    with _display() as display:
        while True:
            began = time.monotonic()
            look = _look(api, revision, version)
            display.show(look)
            if look.converged and not look.judged:
                break
            if not look.in_force:
                version = _latest_version(api, revision, version)
            if look.waits:
                # The control plane ends the judgement and the stage.
                end = time.monotonic() + timeout
            elif time.monotonic() >= end:
                raise CommandError(
                    f"after {timeout:g} s, not all nodes have accepted revision {revision}: "
                    f"{look.progress}",
                    hint="`sluice status` shows the nodes",
                    status=ExitStatus.TIMED_OUT,
                )
            # The status of many nodes is large, and costs the control plane time.
            pause = JUDGED_INTERVAL if look.waits else POLL_INTERVAL
            time.sleep(max(pause, time.monotonic() - began))
    accepted, nobody = f"accepted by {len(look.nodes)} nodes", "no node is connected to this server"
    found = accepted if look.nodes else nobody
    show_note(f"revision {revision} is in force, {found}")
    return ExitStatus.OK


def _look(api: Api, revision: int, version: str) -> Look:
    """Raises CommandError if a node has rejected the version."""
    status, views = api.get("status"), api.get("nodes")
    with api.reading():
        for node in filter(_is_awaited, status["nodes"]):
            for name, each in node["types"].items():
                if each["nacked"] == version:
                    raise _rejected(revision, f"node {node['id']}: {name}: {each['reason']}")
        in_force = status["version"] == version and bool(status["in_sync"])
        judged = in_force and status["watched"] == revision
        stage = status["stage"]
        if stage is not None and stage["begun"] != revision:
            stage = None
        look = Look(in_force, list(filter(_is_awaited, views["nodes"])), judged, stage)
        list(plain(node_table(look.nodes)))
    return look


def _is_awaited(node: Data) -> bool:
    """Whether a change waits for a node. istiod has no credentials, so it could be anyone."""
    return bool(node["kind"] != "istiod")


def _latest_version(api: Api, revision: int, version: str) -> str:
    """The version of the revision, or of the latest step of a canary since then.

    Raises CommandError if the revision was rejected, or if somebody has replaced it.
    """
    history = api.get("history", limit=_RECENT)
    with api.reading():
        newer = [each for each in history["revisions"] if each["revision"] > revision]
        by_itself = [each for each in newer if each["author"] == AUTHOR]
        for each in by_itself:
            if each["origin"] == ROLLBACK:
                raise _rejected(revision, rejection_reason(str(each["reason"]), revision))
        if len(by_itself) < len(newer):
            latest = max(int(each["revision"]) for each in newer)
            raise CommandError(
                f"revision {revision} is not in force: revision {latest} has replaced it",
                hint="`sluice history` shows who changed the config",
                status=ExitStatus.CONFLICT,
            )
        steps = {int(each["revision"]): str(each["version"]) for each in newer}
        return steps[max(steps)] if steps else version


def _rejected(revision: int, reason: str) -> CommandError:
    return CommandError(
        rejection(revision, reason),
        hint="the last good config is in force; `sluice history` shows it, `sluice status` the "
        "nodes",
        status=ExitStatus.REJECTED,
    )


def node_table(nodes: list[Data]) -> Iterator[Block]:
    """The nodes with the state in which they are."""
    if not nodes:
        yield Line("no node is connected", "warn")
        return
    rows = []
    for node in nodes:
        state = Cell(node["state"], STYLES.get(node["state"], ""))
        lag = f"{node['lag']:.1f} s" if node["lag"] else "-"
        cells = (node["id"], node["kind"], state, node["version"] or "none", lag)
        rows.append(Row(cells, [str(node["reason"])] if node["reason"] else ()))
    yield Table(NODE_COLUMNS, rows)


def _progress_view(look: Look) -> Iterator[Block]:
    """How far the nodes are, on one screen."""
    few = len(look.nodes) <= MAX_SHOWN
    shown = [node for node in look.nodes if few or node["state"] != "ack"]
    if few or shown:
        yield from node_table(shown[:MAX_SHOWN])
    if not few or look.stage is not None:
        yield Line(look.timed_progress)
    elif look.judged:
        yield Line(JUDGED)


class _Display(Protocol):
    """Shows how far the nodes are, during a with block."""

    def __enter__(self) -> "_Display": ...
    def __exit__(self, *_: object) -> None: ...
    def show(self, look: Look) -> None:
        """Show what a look has found."""


def _display() -> _Display:
    return _LiveDisplay() if sys.stderr.isatty() else _LineDisplay()


class _LiveDisplay:
    """A table at the terminal that changes in place."""

    def __init__(self) -> None:
        from rich.live import Live

        self._live = Live(
            console=terminal(stderr=True), auto_refresh=False, vertical_overflow="ellipsis"
        )

    def __enter__(self) -> "_LiveDisplay":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, look: Look) -> None:
        self._live.update(rendered(_progress_view(look)), refresh=True)


class _LineDisplay:
    """A line for each progress. Only the first one of a stage has the time that is left."""

    def __init__(self) -> None:
        self._latest = ""
        self._timed = False

    def __enter__(self) -> "_LineDisplay":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, look: Look) -> None:
        if look.progress != self._latest:
            self._latest = look.progress
            show_note(f"nodes: {look.progress if self._timed else look.timed_progress}")
            self._timed = look.stage is not None
