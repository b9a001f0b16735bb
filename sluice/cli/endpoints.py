"""The endpoints in `sluice status`: how many are in each state, and which are not healthy."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from sluice.cli.output import Block, Cell, Field, Line, Row, Style, Table
from sluice.contract.names import CALLOUT_CLUSTER
from sluice.http.client import Status

MAX_ROWS = 100
"""Maximum endpoints that are printed for one Envoy. `--json` has all."""

STYLES: dict[str, Style] = {"healthy": "good", "unknown": "dim", "draining": "warn"}
"""Colours of the states; others are bad."""


def endpoint_blocks(envoys: list[Status]) -> Iterator[Block]:
    """What each Envoy sees, from `envoys` of the control plane's status."""
    if not envoys:
        yield Line()
        yield Field("endpoints", "not known: the control plane has asked no Envoy")
    for envoy in envoys:
        yield Line()
        if envoy["error"] is not None:
            text = f"not known now: Envoy at {envoy['source']}: {envoy['error']}"
            yield Field("endpoints", text, "warn")
        if envoy["node"] is not None:
            yield from _seen(envoy)


def clock_time(seconds: float) -> str:
    """A Unix time as local time; with the date if it is not of the last day."""
    time = datetime.fromtimestamp(seconds, UTC).astimezone()
    recent = (datetime.now(UTC) - time).days < 1
    return time.strftime("%H:%M:%S" if recent else "%Y-%m-%d")


def endpoint_row(endpoint: Status) -> Row:
    """The row of an endpoint: address, cluster, state, time since when, and cause."""
    state = endpoint["state"]
    since = "-" if state == "unknown" else clock_time(endpoint["since"])
    cell = Cell(state, STYLES.get(state, "bad"))
    return Row((endpoint["address"], endpoint["cluster"], cell, since, endpoint["why"]))


COLUMNS = ("ENDPOINT", "OF", "STATE", "SINCE", "WHY")
"""The columns of `endpoint_row`."""


def _seen(envoy: Status) -> Iterator[Block]:
    """The endpoints as of the latest answer of an Envoy."""
    states = Counter(each["state"] for each in envoy["endpoints"] if not _is_worker(each))
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common()) or "none"
    yield Field("endpoints", f"{counts} (node {envoy['node']}, {envoy['age']:.1f} s ago)")
    shown = [each for each in envoy["endpoints"] if each["state"] != "healthy" or each["why"]]
    if shown:
        yield Table(COLUMNS, [endpoint_row(each) for each in shown[:MAX_ROWS]])
    if len(shown) > MAX_ROWS:
        yield Line(f"and {len(shown) - MAX_ROWS} more: see --json")


def _is_worker(endpoint: Status) -> bool:
    return bool(endpoint["cluster"] == CALLOUT_CLUSTER)
