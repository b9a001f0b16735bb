"""The endpoints in `sluice status`: how many are in each state, and which are not healthy."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from sluice.contract.names import CALLOUT_CLUSTER
from sluice.http.client import Status

MAX_ROWS = 100
"""Maximum endpoints that are printed for one Envoy. `--json` has all."""


def endpoint_lines(envoys: list[Status]) -> Iterator[str]:
    """What each Envoy sees, from `envoys` of the control plane's status."""
    if not envoys:
        yield from ("", "endpoints not known yet: the control plane has asked no Envoy")
    for envoy in envoys:
        yield ""
        if envoy["error"] is not None:
            yield f"endpoints not known now: Envoy at {envoy['source']}: {envoy['error']}"
        if envoy["node"] is not None:
            yield from _seen(envoy)


def clock_time(seconds: float) -> str:
    """A Unix time as local time; with the date if it is not of the last day."""
    time = datetime.fromtimestamp(seconds, UTC).astimezone()
    recent = (datetime.now(UTC) - time).days < 1
    return time.strftime("%H:%M:%S" if recent else "%Y-%m-%d")


def _seen(envoy: Status) -> Iterator[str]:
    """The endpoints as of the latest answer of an Envoy."""
    states = Counter(each["state"] for each in envoy["endpoints"] if not _is_worker(each))
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common()) or "none"
    yield f"endpoints {counts} (node {envoy['node']}, {envoy['age']:.1f} s ago)"
    shown = [each for each in envoy["endpoints"] if each["state"] != "healthy" or each["why"]]
    if shown:
        yield f"{'ENDPOINT':<28}{'OF':<28}{'STATE':<13}{'SINCE':<12}WHY"
    for each in shown[:MAX_ROWS]:
        since = "-" if each["state"] == "unknown" else clock_time(each["since"])
        row = f"{each['address']:<28}{each['cluster']:<28}{each['state']:<13}{since:<12}"
        yield row + each["why"]
    if len(shown) > MAX_ROWS:
        yield f"and {len(shown) - MAX_ROWS} more: see --json"


def _is_worker(endpoint: Status) -> bool:
    return bool(endpoint["cluster"] == CALLOUT_CLUSTER)
